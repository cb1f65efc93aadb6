"""Which models and weights the persistent step serves, and the constants that its source is compiled with.

Why constants: loops over a known number of columns unroll, and what does not fit shared memory fails at compile time.

    reason = why_not(shape, weights, batch=1)       # None, or one sentence
    build = build_for(shape, weights, blocks=132)
"""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch

from jobs.turbo.layers import Layer, Taken
from jobs.turbo.shape import Shape
from jobs.turbo.weights import Dense, Int4, Int8, Weight, shape_of

_FOLDER = Path(__file__).parent
_PARTS = ("layout.cuh", "ring.cuh", "products.cuh", "vectors.cuh", "attention.cuh", "step.cu")
_GROUP = 128
_TILE = 16  # rows that a block multiplies at once
_PIECE_BYTES = 64  # of a row, that a warp multiplies at once
_MOST_SHARERS = 8  # query heads of a key/value head: the columns of an mma
_SHARED_BYTES = 227 * 1024  # of a multiprocessor of sm_90, less what a block reserves


@dataclass(frozen=True, slots=True)
class Build:
    """The constants of one compiled kernel. Sizes in elements; `blocks`: one a multiprocessor."""

    layers: int
    hidden: int
    inner: int
    heads: int
    kv_heads: int
    head_dim: int
    vocab: int
    norm_eps: float
    scale: float
    is_bf16: bool
    layer_bits: int
    head_bits: int
    slice_bytes: int  # of each row of a tile in one stage of the ring
    blocks: int
    warps: int = 8
    shared_bytes: int = _SHARED_BYTES
    ahead_kib: int = 128  # a multiprocessor: how far a scout fetches into the second-level cache; 0: no scout
    traced: bool = False

    @property
    def name(self) -> str:
        """For the result's row."""
        return f"persistent-int{self.layer_bits}" if self.layer_bits < 16 else "persistent-dense"

    @property
    def splits(self) -> int:
        """Blocks that share the positions of a key/value head."""
        return self.blocks // self.kv_heads

    @property
    def mail_words(self) -> int:
        """Words of 32 bits that blocks send each other in a step: two halves, or a number of a share of attention."""
        qkv, attended = (self.heads + 2 * self.kv_heads) * self.head_dim, self.heads * self.head_dim
        shares = self.splits * self.heads * (self.head_dim + 4)
        return self.layers * ((qkv + attended + 2 * self.hidden + self.inner) // 2 + shares)

    @property
    def threads(self) -> int:
        """Those that multiply, one warp that asks for memory, and its scout."""
        return 32 * (self.warps + (2 if self.ahead_kib else 1))

    @property
    def defines(self) -> tuple[str, ...]:
        """For the compiler's command line."""
        numbers = {
            "LAYERS": self.layers, "HIDDEN": self.hidden, "INNER": self.inner, "HEADS": self.heads,
            "KV_HEADS": self.kv_heads, "HEAD_DIM": self.head_dim, "VOCAB": self.vocab,
            "EPS": f"{self.norm_eps!r}f", "SCALE": f"{self.scale!r}f", "HALF_IS_BF16": int(self.is_bf16),
            "LAYER_BITS": self.layer_bits, "HEAD_BITS": self.head_bits, "SLICE_BYTES": self.slice_bytes,
            "BLOCKS": self.blocks, "WARPS": self.warps, "SHARED_BYTES": self.shared_bytes,
            "AHEAD_KIB": self.ahead_kib, "TRACED": int(self.traced),
        }  # fmt: skip
        return tuple(f"-D{name}={value}" for name, value in numbers.items())


def build_for(shape: Shape, weights: Taken, blocks: int) -> Build:
    """Only for what `why_not` has nothing against."""
    return Build(
        layers=shape.layers,
        hidden=shape.hidden,
        inner=shape_of(weights.layers[0].down)[1],
        heads=shape.heads,
        kv_heads=shape.kv_heads,
        head_dim=shape.head_dim,
        vocab=shape.vocab,
        norm_eps=float(shape.norm_eps),
        scale=float(shape.scale),
        is_bf16=weights.embedding.dtype == torch.bfloat16,
        layer_bits=_bits(weights.layers[0].qkv),
        head_bits=_bits(weights.head),
        slice_bytes=1024 if isinstance(weights.layers[0].qkv, Dense) else 2048,  # as measured
        blocks=blocks,
    )


@cache
def source(first: Path = _FOLDER / "device.cuh") -> str:
    """The kernel as one text; `first` holds what it needs of the machine."""
    return "\n".join(path.read_text(encoding="utf-8") for path in (first, *(_FOLDER / name for name in _PARTS)))


def why_not(shape: Shape, weights: Taken, batch: int) -> str | None:
    """None, or what keeps this step from being one kernel; then it is one graph of kernels."""
    linears = [weight for layer in weights.layers for weight in layer.linears]
    kinds = {type(weight) for weight in linears}
    reasons = {
        "it serves one sequence": batch != 1,
        "it computes in 16 bit": weights.embedding.dtype not in (torch.float16, torch.bfloat16),
        "it turns codes into float16": weights.embedding.dtype == torch.bfloat16
        and any(not isinstance(weight, Dense) for weight in [*linears, weights.head]),
        "its layers are of several kinds": len(kinds) > 1,
        "it has no biases and no norms of heads": any(_has_extras(layer) for layer in weights.layers),
        "its heads are not of 64 or 128 dimensions": shape.head_dim not in (64, 128),
        "more than 8 query heads share a key": shape.heads > _MOST_SHARERS * shape.kv_heads,
        "a matrix does not divide into its tiles": any(not _fits(weight) for weight in [*linears, weights.head]),
    }
    return next((reason for reason, is_so in reasons.items() if is_so), None)


def _has_extras(layer: Layer) -> bool:
    return any(extra is not None for extra in (layer.qkv_bias, layer.query_norm, layer.key_norm))


def _fits(weight: Weight) -> bool:
    """Whole tiles and pieces; scales in groups of 128 without zero points, 16 bytes of them a row at a time."""
    rows, columns = shape_of(weight)
    whole = rows % _TILE == 0 and columns * _bits(weight) // 8 % _PIECE_BYTES == 0
    if not isinstance(weight, Int4):
        return whole
    return whole and weight.zeros is None and weight.group == _GROUP and columns // _GROUP % 8 == 0


def _bits(weight: Weight) -> int:
    return 4 if isinstance(weight, Int4) else 8 if isinstance(weight, Int8) else 16
