"""What is tried: shapes of Llama-3-8B, kinds of weights, numbers of rows, cuts of the kernels."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from jobs.turbo.kernels import launch
from jobs.turbo.kernels.configs import Gemv, Skinny
from jobs.turbo.weights import Dense, Int4, Int8, Weight
from tests.perf.turbo_kernels.shapes import SHAPES

DEVICE, DTYPE, GROUP = "cuda", torch.bfloat16, 128
KINDS = ("int4", "int8", "dense")
GEMVS = {
    "int4": [Gemv(4, 4), Gemv(8, 4), Gemv(16, 4), Gemv(8, 2), Gemv(4, 2), Gemv(4, 8), Gemv(2, 4)],
    "int8": [Gemv(4, 4), Gemv(8, 4), Gemv(4, 8), Gemv(2, 8), Gemv(4, 2)],
    "dense": [Gemv(4, 4), Gemv(2, 8), Gemv(8, 4), Gemv(4, 8), Gemv(2, 4, 2)],
}
SKINNIES = [
    Skinny(64, 4, 4, 1),
    Skinny(64, 4, 4, 4),
    Skinny(64, 4, 6, 8),
    Skinny(32, 2, 5, 1),
    Skinny(32, 2, 5, 4),
    Skinny(128, 4, 4, 4),
]


@dataclass(frozen=True, slots=True)
class Variant:
    """`cut` None: the vendor's library."""

    kind: str
    shape: str
    rows: int
    cut: Gemv | Skinny | None

    @property
    def compiled(self) -> str:
        """Variants of one name share their machine code. One tile may hold a whole row of 4,096 inputs."""
        return f"{self.kind} {self.cut} {isinstance(self.cut, Gemv) and SHAPES[self.shape][1]}"

    def run(self, x: Tensor, weight: Weight) -> Tensor:
        if isinstance(self.cut, Gemv):
            return launch.gemv(x, weight, config=self.cut)
        if isinstance(self.cut, Skinny):
            return launch.skinny(x, weight, config=self.cut)
        assert isinstance(weight, Dense)
        return torch.matmul(x, weight.weight.T)

    def random_rows(self) -> Tensor:
        return torch.randn(self.rows, SHAPES[self.shape][1], dtype=DTYPE, device=DEVICE)


def single_row() -> Iterator[Variant]:
    """Decode at batch 1. The tensor cores are tried for 4 bit, where the plain units have least to spare."""
    for kind in KINDS:
        for shape in SHAPES:
            yield from (Variant(kind, shape, 1, cut) for cut in GEMVS[kind])
            if kind == "dense":
                yield Variant(kind, shape, 1, None)
            if kind == "int4":
                yield from (Variant(kind, shape, 1, cut) for cut in SKINNIES)


def several_rows() -> Iterator[Variant]:
    for rows in (16, 4):
        for kind in KINDS:
            for shape in SHAPES:
                cuts = SKINNIES[:2] if kind == "dense" else SKINNIES
                yield from (Variant(kind, shape, rows, cut) for cut in cuts)
                if kind == "dense":
                    yield Variant(kind, shape, rows, None)


def make(kind: str, shape: str) -> Weight:
    """Random codes, and scales that make outputs about 1."""
    rows, columns = SHAPES[shape]
    unit = 1 / columns**0.5
    if kind == "dense":
        return Dense(torch.empty(rows, columns, dtype=DTYPE, device=DEVICE).normal_(std=unit))
    if kind == "int8":
        codes = torch.randint(-127, 128, (rows, columns), dtype=torch.int8, device=DEVICE)
        return Int8(codes, torch.empty(rows, dtype=DTYPE, device=DEVICE).uniform_(0.5, 1.5) * unit / 73)
    packed = torch.randint(-(1 << 31), 1 << 31, (rows, columns // 8), dtype=torch.int64, device=DEVICE).to(torch.int32)
    scales = torch.empty(rows, columns // GROUP, dtype=DTYPE, device=DEVICE).uniform_(0.5, 1.5) * unit / 4.6
    return Int4(packed, scales, None, GROUP, (rows, columns))
