"""Rotary positions: the tables of cosines and sines.

Why tables: the frequencies never change, and a decode step needs one row. They come from the model's own
rotary module, so every scaling (linear, YaRN, Llama 3's) is the one that the checkpoint was trained with.

    table = RotaryTable(model.model.rotary_emb, torch.float16)
    cos, sin = table.rows(2048)             # [>= 2048, head_dim] each
"""

from typing import Any

import torch
from torch import Tensor

_LEAST_ROWS = 256


class RotaryTable:
    """Rows by position, made as far as they are asked for: 131,072 positions of a large model would take 67 MB."""

    def __init__(self, rotary: Any, dtype: torch.dtype, device: torch.device) -> None:
        self._rotary = rotary
        self._empty = torch.empty(0, dtype=dtype, device=device)  # the module takes dtype and device from an input
        self._cos, self._sin = self._made(_LEAST_ROWS)

    def rows(self, positions: int) -> tuple[Tensor, Tensor]:
        """cos and sin, [at least `positions`, head_dim]. A longer table is a new one: who holds the old one keeps it,
        as a captured graph does."""
        if positions > len(self._cos):
            self._cos, self._sin = self._made(_power_of_two(positions))
        return self._cos, self._sin

    @torch.no_grad()
    def _made(self, rows: int) -> tuple[Tensor, Tensor]:
        positions = torch.arange(rows, device=self._empty.device).unsqueeze(0)
        cos, sin = self._rotary(self._empty, positions)
        return cos[0].contiguous(), sin[0].contiguous()


def _power_of_two(number: int) -> int:
    return 1 << (number - 1).bit_length()
