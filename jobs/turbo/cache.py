"""The static key/value cache: one block of memory, laid out once for a batch and a longest sequence.

Why static: a captured graph writes to fixed addresses. Why never cleared: attention reads the first `length` rows
only, and a generation writes each row before its length covers it, so what an earlier one left there is never seen.

In 8 bit (`FP8`) keys and values are E4M3 numbers without a scale: 4 significant bits between 2^-6 and 448, and what is
larger is stored as 448. Both phases read what is stored, so the forward over a text sees what decoding will see.

    cache = KvCache.allocate(shape, batch=1, max_len=2304, like=embedding)
    cache = KvCache.allocate(shape, batch=16, max_len=2304, like=embedding, dtype=FP8)      # half the bytes
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from jobs.turbo.shape import Shape

FP8 = torch.float8_e4m3fn


@dataclass(frozen=True, slots=True)
class KvCache:
    """`keys` and `values`: [layers, batch, kv_heads, max_len, head_dim]."""

    keys: Tensor
    values: Tensor

    @classmethod
    def allocate(
        cls,
        shape: Shape,
        batch: int,
        max_len: int,
        like: Tensor,
        layers: int | None = None,
        dtype: torch.dtype | None = None,
    ) -> "KvCache":
        """Zeros, on the device of `like` and in its type unless another is named: a row never written must not hold a
        NaN, which would outlive a mask (0 * NaN is NaN). With `layers` 1, one layer's memory serves all in turn."""
        size = (layers or shape.layers, batch, shape.kv_heads, max_len, shape.head_dim)
        return cls(*(torch.zeros(size, dtype=dtype or like.dtype, device=like.device) for _ in range(2)))

    @property
    def bytes(self) -> int:
        return self.keys.nbytes + self.values.nbytes

    @property
    def dtype(self) -> torch.dtype:
        return self.keys.dtype

    @property
    def max_len(self) -> int:
        return self.keys.shape[3]

    def layer(self, index: int) -> tuple[Tensor, Tensor]:
        """Keys and values of one layer, [batch, kv_heads, max_len, head_dim]."""
        own = index % len(self.keys)
        return self.keys[own], self.values[own]

    def of_rows(self, rows: slice) -> "KvCache":
        """The same memory, of some of the batch."""
        return KvCache(self.keys[:, rows], self.values[:, rows])
