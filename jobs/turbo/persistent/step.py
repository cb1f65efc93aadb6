"""The table that the persistent kernel reads, made once for a cache and a state, and the launch over it.

step = PersistentStep(build, weights, rows, state, cache, kernel)
step.run()
"""

from collections.abc import Callable
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from jobs.turbo.cache import KvCache
from jobs.turbo.layers import Layer, Taken
from jobs.turbo.persistent.build import Build
from jobs.turbo.step import DecodeState
from jobs.turbo.weights import Dense, Int8, Weight

# Takes the address of the table (`StepTable` of layout.cuh) and enqueues one step.
Kernel = Callable[[int], None]

# What a traced build times in each layer, as in `Mark` of layout.cuh; the last are cycles with a full ring, in all.
MARKS = (
    "input", "qkv", "share", "attended", "middle sent", "middle", "inner sent", "early inner", "inner",
    "hidden sent", "ring full",
)  # fmt: skip
_EMPTY = -1  # the bits of a word that has not been sent


@dataclass(frozen=True, slots=True)
class Scratch:
    """What blocks send each other, and what is left for the next launch; in the order of `StepTable`."""

    mail: Tensor
    best_logit: Tensor
    best_token: Tensor
    launches: Tensor
    finished: Tensor
    trace: Tensor

    @classmethod
    def allocate(cls, build: Build, device: torch.device) -> "Scratch":
        marks = (build.blocks, build.layers, len(MARKS)) if build.traced else (0,)
        return cls(
            mail=torch.full((2, build.mail_words), _EMPTY, dtype=torch.int32, device=device),
            best_logit=torch.zeros(build.blocks, dtype=torch.float32, device=device),
            best_token=torch.zeros(build.blocks, dtype=torch.int32, device=device),
            launches=torch.zeros(1, dtype=torch.int32, device=device),
            finished=torch.zeros(1, dtype=torch.int32, device=device),
            trace=torch.zeros(marks, dtype=torch.long, device=device),
        )

    def addresses(self) -> list[int]:
        return [getattr(self, field.name).data_ptr() for field in fields(self)]


class PersistentStep:
    """One token a `run`. Holds every tensor whose address is in the table."""

    def __init__(
        self,
        build: Build,
        weights: Taken,
        rows: tuple[Tensor, Tensor],
        state: DecodeState,
        cache: KvCache,
        kernel: Kernel,
    ) -> None:
        self._kernel = kernel
        self.scratch = Scratch.allocate(build, weights.embedding.device)
        self._held = (weights, rows, state, cache)
        table = _table(weights, rows, state, cache, self.scratch)
        self._table = torch.tensor(table, dtype=torch.long).to(weights.embedding.device)

    def run(self) -> None:
        """Only enqueues; raises what the driver says of the launch."""
        self._kernel(self._table.data_ptr())


def _table(
    weights: Taken, rows: tuple[Tensor, Tensor], state: DecodeState, cache: KvCache, scratch: Scratch
) -> list[int]:
    """The words of `StepTable`, in its order: addresses, and three numbers."""
    cos, sin = rows
    head = [weights.embedding.data_ptr(), weights.norm.data_ptr(), *_matrix(weights.head)]
    rotary = [cos.data_ptr(), sin.data_ptr(), cos.stride(0)]
    memory = [cache.keys.data_ptr(), cache.values.data_ptr(), cache.max_len]
    places = [tensor.data_ptr() for tensor in (state.token, state.ids, state.counters)]
    layers = [word for layer in weights.layers for word in _layer(layer)]
    return [*head, *rotary, *memory, *places, *scratch.addresses(), *layers]


def _layer(layer: Layer) -> list[int]:
    return [
        layer.attention_norm.data_ptr(),
        *_matrix(layer.qkv),
        *_matrix(layer.out),
        layer.mlp_norm.data_ptr(),
        *_matrix(layer.gate_up),
        *_matrix(layer.down),
    ]


def _matrix(weight: Weight) -> tuple[int, int]:
    if isinstance(weight, Dense):
        return weight.weight.data_ptr(), 0
    codes = weight.codes if isinstance(weight, Int8) else weight.packed
    return codes.data_ptr(), weight.scales.data_ptr()
