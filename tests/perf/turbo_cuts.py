"""How to cut the kernels of a step of several sequences: `python -m tests.perf.turbo_cuts --out DIR`.

Attention over 2,048 filled positions with a cache in 16 and in 8 bit, and the products of Llama-3-8B's layers with 16
rows in INT8 and INT4, in float16. Each time is the median of 20 replays of a graph of launches over several copies,
three times the second-level cache together; beside it stands what the bytes take at this card's read bandwidth. Every
cut is first compared with the reference. One that does not compile or is wrong is told and left out. Needs torch with
CUDA and Triton, nothing else; `--within` seconds (default 90) bound it, and the shipped cut of every case comes first.
"""

import argparse
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from jobs.turbo.cache import FP8
from jobs.turbo.kernels import configs, reference
from jobs.turbo.kernels.configs import Attention, Skinny
from jobs.turbo.weights import dequantize, quantize_int4, quantize_int8
from tests.perf.turbo_kernels.shapes import DIM, HEADS, KV_HEADS, SHAPES
from tests.perf.turbo_kernels.timing import attempt, ceilings_gb_s, graph_us

FILLED, MAX_LEN = 2048, 2304
BATCH = 16
ROTATED_BYTES = 150e6
TOLERANCE = 2e-3  # of the norm, in float16

Cut = Attention | Skinny
Run = Callable[[int, Any], Tensor]  # of which copy, with which cut


@dataclass(frozen=True, slots=True)
class Bench:
    """One case's inputs. `run` uses one of the `copies`; `expected` is the answer for the first."""

    run: Run
    copies: int
    expected: Tensor

    def microseconds(self, cut: Cut) -> float:
        """Raises ValueError when the answer is wrong, and what the compiler raises."""
        off = float((self.run(0, cut).float() - self.expected).norm() / self.expected.norm())
        if not off < TOLERANCE:
            raise ValueError(f"wrong by {off:.1e} of the norm")
        return graph_us(lambda: [self.run(index, cut) for index in range(self.copies)]) / self.copies


@dataclass(frozen=True, slots=True)
class Attending:
    """Attention of one token of each sequence."""

    batch: int
    dtype: torch.dtype

    @property
    def name(self) -> str:
        return f"attention, batch {self.batch}, {'8 bit' if self.dtype == FP8 else '16 bit'}"

    @property
    def bytes_read(self) -> float:
        """Keys and values of the filled positions, all heads, one layer."""
        return 2 * self.batch * KV_HEADS * FILLED * DIM * self.dtype.itemsize

    @property
    def shipped(self) -> Attention:
        return configs.attention_config(self.batch * KV_HEADS, MAX_LEN)

    def cuts(self) -> tuple[Attention, ...]:
        """The shipped cut and its neighbours: more programs, deeper prefetch, wider blocks, more warps."""
        base = self.shipped
        more = [replace(base, splits=base.splits * times) for times in (2, 4, 8)]
        deep = [replace(cut, stages=stages) for cut in (base, *more[:2]) for stages in (3, 4)]
        wide = [replace(cut, block=128, warps=warps) for cut in (base, more[0]) for warps in (4, 8)]
        narrow = [replace(cut, block=32) for cut in more]
        fits = [cut for cut in (*more, *deep, *wide, *narrow) if (cut.splits - 1) * cut.block < FILLED]
        return tuple(dict.fromkeys((base, *fits)))

    def bench(self, device: str) -> Bench:
        from jobs.turbo.kernels import launch  # imports Triton

        size = (2, self.batch, KV_HEADS, MAX_LEN, DIM)
        count = _copies(self.bytes_read)
        caches = [torch.randn(size, dtype=torch.float16, device=device).to(self.dtype) for _ in range(count)]
        q = torch.randn(self.batch, HEADS, DIM, dtype=torch.float16, device=device)
        length = torch.full((self.batch,), FILLED, device=device)

        def run(index: int, cut: Attention) -> Tensor:
            return launch.decode_attention(q, *caches[index], length, DIM**-0.5, cut)

        expected: Any = reference.decode_attention(q, *caches[0], length, DIM**-0.5)
        return Bench(run, count, expected.float())


@dataclass(frozen=True, slots=True)
class Multiplying:
    """Sixteen rows times the weights of one fused layer."""

    kind: str
    shape: str

    @property
    def name(self) -> str:
        return f"{self.shape}, {self.kind}"

    @property
    def bytes_read(self) -> float:
        rows, columns = SHAPES[self.shape]
        return rows * columns * (1.0 if self.kind == "int8" else 4.125 / 8)

    @property
    def shipped(self) -> Skinny:
        return configs.skinny_config(self.kind, *SHAPES[self.shape])

    def cuts(self) -> tuple[Skinny, ...]:
        """Fewer warps: their products are ones that wait for nobody, and half the instructions (`turbo_ptx`)."""
        base = self.shipped
        twice = replace(base, splits=2 * base.splits)
        two = [replace(cut, warps=2) for cut in (base, twice)]
        low = [replace(cut, block_rows=32, warps=warps) for cut in (base, twice) for warps in (1, 2)]
        deep = [replace(cut, stages=stages) for cut in (base, *two) for stages in (3, 6)]
        return tuple(dict.fromkeys((base, *two, *low, *deep, twice, replace(base, block_rows=128))))

    def bench(self, device: str) -> Bench:
        from jobs.turbo.kernels import launch  # imports Triton

        rows, columns = SHAPES[self.shape]
        count = _copies(self.bytes_read)
        quantize = quantize_int8 if self.kind == "int8" else partial(quantize_int4, group=128)
        drawn = torch.randn(rows, columns, dtype=torch.float16, device=device) / columns**0.5
        weights = [quantize(drawn) for _ in range(count)]
        x = torch.randn(BATCH, columns, dtype=torch.float16, device=device)

        def run(index: int, cut: Skinny) -> Tensor:
            return launch.skinny(x, weights[index], config=cut)

        return Bench(run, count, x.float() @ dequantize(weights[0], torch.float32).T)


Case = Attending | Multiplying
CASES: tuple[Case, ...] = (
    Attending(16, FP8),
    *(Multiplying(kind, shape) for kind in ("int8", "int4") for shape in ("qkv", "gate_up", "down")),
    *(Attending(batch, dtype) for batch, dtype in ((16, torch.float16), (1, FP8), (4, FP8), (4, torch.float16))),
)


def _copies(bytes_read: float) -> int:
    return int(ROTATED_BYTES // bytes_read) + 2


def in_turn() -> Iterator[tuple[Case, Cut]]:
    """The shipped ones, then the second of every case, and so on: whenever time is up, all cases got as far."""
    columns: list[Sequence[Cut]] = [case.cuts() for case in CASES]
    for index in range(max(map(len, columns))):
        yield from ((case, column[index]) for case, column in zip(CASES, columns, strict=True) if index < len(column))


def main() -> None:
    given = _arguments()
    given.out.mkdir(parents=True, exist_ok=True)
    end = time.monotonic() + given.within
    torch.manual_seed(0)
    read_gb_s = ceilings_gb_s("cuda")["read"]
    benches = {case: case.bench("cuda") for case in CASES}
    found: dict[str, dict[str, float | str]] = {case.name: {} for case in CASES}
    for case, cut in in_turn():
        if time.monotonic() > end:
            break
        us, failure = attempt(partial(benches[case].microseconds, cut))
        found[case.name][str(cut)] = failure or us
    told = {"device": torch.cuda.get_device_name(), "read_gb_s": read_gb_s, "us": found}
    (given.out / "turbo_cuts.json").write_text(json.dumps(told, indent=1))
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
    ask.add_argument("--within", type=float, default=90.0, metavar="SECONDS")
    return ask.parse_args()


if __name__ == "__main__":
    main()
