"""Unquantized weights: fp32, fp16, bf16. The reference that every other precision is compared with.

A 7B model is 28 GB in fp32 and 14 GB in 16 bit; one decoded token reads all of it. On CPUs without native 16-bit
matrix products fp32 is the faster one (about 6 times in prefill), on GPUs 16 bit is.

    BACKEND.dtype(parse_quantization("bf16"), "cuda")       # torch.bfloat16
"""

from typing import TYPE_CHECKING

import torch

from farm.cells import Load
from farm.quantization import Quantization
from jobs.quantization.base import Backend, load_dense, why_not_here

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from jobs.models.sources import Located

_DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


class Dense(Backend):
    """Plain `nn.Linear` layers in one dtype."""

    names: tuple[str, ...] = tuple(_DTYPES)

    def why_not(self, wanted: Quantization, device: str) -> str | None:
        return why_not_here(device)

    def dtype(self, wanted: Quantization, device: str) -> torch.dtype:
        return _DTYPES[wanted.name]

    def linear_classes(self, wanted: Quantization, device: str) -> tuple[str, ...]:
        return ("Linear",)

    def load(self, wanted: Quantization, located: "Located", load: Load, seed: int = 0) -> "PreTrainedModel":
        return load_dense(located, load, self.dtype(wanted, load.device), seed)


BACKEND = Dense()
