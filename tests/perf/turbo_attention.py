"""How to cut the attention of one step at each batch: `python -m tests.perf.turbo_attention --out DIR`.

The heads of Llama-3-8B over 2,048 filled positions, with a cache in 16 and in 8 bit, at batch 1, 4 and 16. Each time is
the median of 20 replays of a graph of launches over several caches, three times the second-level cache together; beside
it stands what the cache's bytes take at this card's read bandwidth. Every cut is first compared with the reference. One
that does not compile or is wrong is told and left out. Needs torch with CUDA and Triton, nothing else; `--within`
seconds (default 60) bounds it, the shipped cut of every case comes first.
"""

import argparse
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from jobs.turbo.cache import FP8
from jobs.turbo.kernels import configs, reference
from jobs.turbo.kernels.configs import Attention
from tests.perf.turbo_kernels.timing import attempt, ceilings_gb_s, graph_us

HEADS, KV_HEADS, DIM = 32, 8, 128
FILLED, MAX_LEN = 2048, 2304
ROTATED_BYTES = 150e6
TOLERANCE = 2e-3  # of the norm, in float16


@dataclass(frozen=True, slots=True)
class Case:
    """One shape. `bytes_read`: keys and values of the filled positions, all heads, one layer."""

    batch: int
    dtype: torch.dtype

    @property
    def name(self) -> str:
        return f"batch {self.batch:2}, {'8 bit' if self.dtype == FP8 else '16 bit'}"

    @property
    def bytes_read(self) -> int:
        return 2 * self.batch * KV_HEADS * FILLED * DIM * self.dtype.itemsize

    @property
    def shipped(self) -> Attention:
        return configs.attention_config(self.batch * KV_HEADS, MAX_LEN)


CASES = tuple(Case(batch, dtype) for batch in (16, 1, 4) for dtype in (FP8, torch.float16))


def cuts(shipped: Attention) -> tuple[Attention, ...]:
    """The shipped cut and its neighbours: more programs a multiprocessor, deeper prefetch, wider blocks, more warps."""
    more = [replace(shipped, splits=shipped.splits * times) for times in (2, 4, 8)]
    deep = [replace(cut, stages=stages) for cut in (shipped, *more[:2]) for stages in (3, 4)]
    wide = [replace(cut, block=128, warps=warps) for cut in (shipped, more[0]) for warps in (4, 8)]
    narrow = [replace(cut, block=32) for cut in more]
    fits = [cut for cut in (*more, *deep, *wide, *narrow) if (cut.splits - 1) * cut.block < FILLED]
    return tuple(dict.fromkeys((shipped, *fits)))


def in_turn() -> Iterator[tuple[Case, Attention]]:
    """The shipped ones, then the second of every case, and so on: whenever time is up, all cases got as far."""
    columns = [cuts(case.shipped) for case in CASES]
    for index in range(max(map(len, columns))):
        yield from ((case, column[index]) for case, column in zip(CASES, columns, strict=True) if index < len(column))


class Bench:
    """Queries and caches of one case, made once."""

    def __init__(self, case: Case) -> None:
        torch.manual_seed(0)
        size = (2, case.batch, KV_HEADS, MAX_LEN, DIM)
        count = -(-int(ROTATED_BYTES) // case.bytes_read) + 1
        self.caches = [torch.randn(size, device="cuda", dtype=torch.float16).to(case.dtype) for _ in range(count)]
        self.q = torch.randn(case.batch, HEADS, DIM, device="cuda", dtype=torch.float16)
        self.length = torch.full((case.batch,), FILLED, device="cuda")
        self.expected: Any = reference.decode_attention(self.q, *self.caches[0], self.length, DIM**-0.5).float()

    def microseconds(self, cut: Attention) -> float:
        """Raises ValueError when the answer is wrong, and what the compiler raises."""
        off = float((self._attend(0, cut).float() - self.expected).norm() / self.expected.norm())
        if not off < TOLERANCE:
            raise ValueError(f"wrong by {off:.1e} of the norm")
        return graph_us(partial(self._all, cut)) / len(self.caches)

    def _all(self, cut: Attention) -> list[Tensor]:
        return [self._attend(index, cut) for index in range(len(self.caches))]

    def _attend(self, index: int, cut: Attention) -> Tensor:
        from jobs.turbo.kernels import launch  # imports Triton

        keys, values = self.caches[index]
        return launch.decode_attention(self.q, keys, values, self.length, DIM**-0.5, cut)


def main() -> None:
    given = _arguments()
    given.out.mkdir(parents=True, exist_ok=True)
    end = time.monotonic() + given.within
    read_gb_s = ceilings_gb_s("cuda")["read"]
    found: dict[str, dict[str, float | str]] = {case.name: {} for case in CASES}
    benches = {case: Bench(case) for case in CASES}
    for case, cut in in_turn():
        if time.monotonic() > end:
            break
        us, failure = attempt(partial(benches[case].microseconds, cut))
        found[case.name][str(cut)] = failure or us
    told = {"device": torch.cuda.get_device_name(), "read_gb_s": read_gb_s, "us": found}
    (given.out / "turbo_attention.json").write_text(json.dumps(told, indent=1))
    print("\n".join(lines(found, read_gb_s)))


def lines(found: dict[str, dict[str, float | str]], read_gb_s: float) -> list[str]:
    """Each case's cuts, the fastest first, failures last; the shipped one is marked."""
    told = []
    for case in CASES:
        bound_us = case.bytes_read / read_gb_s / 1e3
        told.append(f"{case.name}: {bound_us:.1f} us at {read_gb_s:.0f} GB/s")
        for cut, us in sorted(found[case.name].items(), key=lambda item: (isinstance(item[1], str), item[1])):
            mark = "*" if cut == str(case.shipped) else " "
            told.append(f" {mark} {us if isinstance(us, str) else f'{us:7.1f} us {bound_us / us:5.0%}'}  {cut}")
    return told


def _arguments() -> argparse.Namespace:
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("--out", type=Path, required=True)
    ask.add_argument("--within", type=float, default=60.0, metavar="SECONDS")
    return ask.parse_args()


if __name__ == "__main__":
    main()
