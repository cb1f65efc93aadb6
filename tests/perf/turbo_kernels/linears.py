"""Every variant of a product: checked, then timed over weights that the L2 cannot hold."""

import time
from collections.abc import Iterable, Iterator
from functools import partial
from itertools import groupby
from typing import Any

from torch import Tensor

from jobs.turbo.weights import Weight, dequantize, weight_bytes
from tests.perf.turbo_kernels.timing import attempt, graph_us
from tests.perf.turbo_kernels.variants import Variant, make

ROTATE_BYTES = 160e6  # three times the L2 of an H100
_LAUNCHES = 16
_WORST_ERROR = 1e-2  # of bfloat16 results 3e-3 is rounding

Row = dict[str, Any]


def time_variants(variants: Iterable[Variant], deadline: float, read_gb_s: float) -> list[Row]:
    """One row a variant, with its time or the reason why there is none."""
    rows: list[Row] = []
    for (kind, shape, batch), same in groupby(variants, lambda v: (v.kind, v.shape, v.rows)):
        group = list(same)
        names = {"kind": kind, "shape": shape, "rows": batch}
        if time.perf_counter() > deadline:
            rows += [names | {"cut": str(v.cut), "failure": "not tried: out of time"} for v in group]
            continue
        rows += [names | row for row in _time_group(group, read_gb_s)]
    return rows


def _time_group(group: list[Variant], read_gb_s: float) -> Iterator[Row]:
    weights = [make(group[0].kind, group[0].shape)]
    size = weight_bytes(weights[0])
    while len(weights) * size < ROTATE_BYTES:
        weights.append(make(group[0].kind, group[0].shape))
    x = group[0].random_rows()
    expected = x.float() @ dequantize(weights[0], x.dtype).float().T
    for variant in group:
        result, failure = attempt(partial(_check_and_time, variant, weights, x, expected))
        row: Row = {"cut": str(variant.cut), "failure": failure}
        if result:
            error, us = result
            row |= {"error": error, "us": us, "gb_s": size / us / 1e3, "of_read": size / us / 1e3 / read_gb_s}
        yield row


def _check_and_time(variant: Variant, weights: list[Weight], x: Tensor, expected: Tensor) -> tuple[float, float]:
    off = float((variant.run(x, weights[0]).float() - expected).norm() / expected.norm())
    if not off < _WORST_ERROR:
        raise ArithmeticError(f"relative error {off:.1e}")
    turns = [weights[i % len(weights)] for i in range(max(_LAUNCHES, len(weights)))]
    return off, graph_us(lambda: [variant.run(x, weight) for weight in turns]) / len(turns)


def winners(rows: list[Row]) -> dict[str, Row]:
    """The fastest correct variant by "kind shape rows"."""
    best: dict[str, Row] = {}
    for row in rows:
        name = f"{row['kind']} {row['shape']} {row['rows']}"
        if "us" in row and (name not in best or row["us"] < best[name]["us"]):
            best[name] = row
    return best


def print_table(best: dict[str, Row], rows: list[Row]) -> None:
    for name, row in best.items():
        speed = f"{row['us']:8.2f} us {row['gb_s']:6.0f} GB/s {row['of_read']:5.2f}"
        print(f"{name:18} {speed} error {row['error']:.1e} {row['cut']}")
    failures = [row["failure"] for row in rows if row["failure"]]
    for text in sorted(set(failures)):
        print("failed:", failures.count(text), "x", text[-200:])
