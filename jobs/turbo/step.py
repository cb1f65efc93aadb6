"""One decode step on fixed addresses: the token in, the next token out, nothing read by the host.

The physics: a step reads every weight and the filled part of the cache once; at batch 1 it does 2 FLOPs a weight, far
below what the device could. So the time is bytes over bandwidth, plus what the kernels leave idle between them: six a
layer at batch 1. The counters live on the device, so that the same step can be captured once and replayed.

    decode_step(taken, shape, table_rows, state, cache)      # state.token is the next token now
"""

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional

from jobs.turbo import kernels
from jobs.turbo.blocks import Attend, run_layers, run_layers_of_one_row
from jobs.turbo.cache import KvCache
from jobs.turbo.kernels import Norm
from jobs.turbo.layers import Taken
from jobs.turbo.shape import Shape

_POSITION, _LENGTH = 0, 1


@dataclass(frozen=True, slots=True)
class DecodeState:
    """What a step reads and moves on. `token` [batch]: fed next. `ids` [batch, max_len]: the new tokens at their
    positions. `counters` [2, batch]: the position of `token`, and the rows of the cache with it included."""

    token: Tensor
    ids: Tensor
    counters: Tensor

    @classmethod
    def allocate(cls, batch: int, max_len: int, device: torch.device) -> "DecodeState":
        """At position 0, where a warm-up may run before any prompt."""
        sizes = ((batch,), (batch, max_len), (2, batch))
        state = cls(*(torch.zeros(size, dtype=torch.long, device=device) for size in sizes))
        state.start_at(0)
        return state

    @property
    def positions(self) -> Tensor:
        return self.counters[_POSITION]

    @property
    def lengths(self) -> Tensor:
        return self.counters[_LENGTH]

    def start_at(self, position: int) -> None:
        """Only enqueues: the numbers travel as kernel arguments."""
        self.counters[_POSITION].fill_(position)
        self.counters[_LENGTH].fill_(position + 1)

    def take_first(self, logits: Tensor, position: int) -> None:
        """The most likely token of the prompt's logits [batch, vocab] stands at `position`."""
        self.start_at(position)
        torch.argmax(logits, dim=-1, out=self.token)
        self.ids[:, position] = self.token

    def take_next(self, logits: Tensor) -> None:
        """Append the most likely token of [batch, vocab] and move on by one."""
        torch.argmax(logits, dim=-1, out=self.token)
        self.ids.scatter_(1, self.lengths[:, None], self.token[:, None])
        self.counters.add_(1)


def decode_step(taken: Taken, shape: Shape, rows: tuple[Tensor, Tensor], state: DecodeState, cache: KvCache) -> None:
    """Feed `state.token` at its position; `rows` are the rotary tables [>= max_len, head_dim]."""
    x = functional.embedding(state.token, taken.embedding)
    attend = partial(_attend, shape, rows, state, cache)
    logits = _logits_of_one_row if len(x) == 1 else _logits
    state.take_next(logits(taken, shape, x, attend))


def _logits_of_one_row(taken: Taken, shape: Shape, x: Tensor, attend: Attend) -> Tensor:
    x = run_layers_of_one_row(taken, shape, x, attend)
    return kernels.fused_linear(x, taken.head, Norm(taken.norm, shape.norm_eps))


def _logits(taken: Taken, shape: Shape, x: Tensor, attend: Attend) -> Tensor:
    x, residual = run_layers(taken, shape, x, attend)
    return kernels.linear(kernels.rms_norm(x, taken.norm, shape.norm_eps, residual)[0], taken.head)


def _attend(
    shape: Shape, rows: tuple[Tensor, Tensor], state: DecodeState, cache: KvCache, index: int, qkv: Tensor
) -> Tensor:
    """[batch, heads * head_dim]; the new key and value are in the cache before they are looked at."""
    keys, values = cache.layer(index)
    query = kernels.rope_and_append(qkv, *rows, state.positions, keys, values)
    return kernels.decode_attention(query, keys, values, state.lengths, shape.scale)
