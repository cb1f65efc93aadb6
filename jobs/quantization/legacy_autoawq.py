"""AutoAWQ, the package that made AWQ usual, from the same checkpoint as `awq`; deprecated in 2025.

The physics: as in `jobs.quantization.gptq_awq`. On a GPU its Triton kernel multiplies packed codes for up to 1,024 rows
and unpacks them for more. Its loader refuses a CPU without an Intel package that no longer follows torch; the layer
itself has a path of plain torch operations, so the loader is told another device and that path is what runs.

    BACKEND.load(parse_quantization("autoawq?group_size=64"), located, load)        # in its own environment only
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import torch
from torch import nn

from farm.cells import Load
from farm.quantization import Quantization
from jobs.legacy.backend import LegacyBackend
from jobs.quantization.gptq_awq import BITS, place

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class AutoAwq(LegacyBackend):
    """Its layers compute in float16 whatever they are given."""

    names: tuple[str, ...] = ("autoawq",)
    package = "awq"

    def dtype(self, wanted: Quantization, device: str) -> torch.dtype:
        return torch.float16

    def linear_classes(self, wanted: Quantization, device: str) -> tuple[str, ...]:
        return ("WQLinear_GEMM",)

    def from_checkpoint(self, folder: Path, load: Load, dtype: torch.dtype) -> "PreTrainedModel":
        """Not fused: fused blocks keep a cache of their own, which nobody could measure."""
        from awq import AutoAWQForCausalLM

        how = {"fuse_layers": False, "trust_remote_code": load.trust_remote_code}
        with patch("awq.models.base.get_best_device", lambda: "cuda:0"):
            loaded = AutoAWQForCausalLM.from_quantized(
                str(folder), torch_dtype=dtype, device_map={"": place(load.device)}, **how
            )
        return loaded.model  # type: ignore[no-any-return]

    def empty_layer(self, linear: nn.Linear, group_size: int) -> nn.Module:
        from awq.modules.linear.gemm import WQLinear_GEMM

        return WQLinear_GEMM.from_linear(linear, BITS, group_size, init_only=True)  # type: ignore[no-any-return]

    def details(self, wanted: Quantization, model: "PreTrainedModel") -> dict[str, str]:
        from awq.modules.linear import gemm

        kernel = "awq_ext" if gemm.awq_ext is not None else "triton" if gemm.TRITON_AVAILABLE else "torch operations"
        return super().details(wanted, model) | {"kernel": kernel}

    @torch.inference_mode()
    def dequantized(self, layer: nn.Module) -> torch.Tensor | None:
        from awq.utils.packing_utils import dequantize_gemm

        packed: Any = layer
        weights: torch.Tensor = dequantize_gemm(packed.qweight, packed.qzeros, packed.scales, BITS, packed.group_size)
        return weights.T


BACKEND = AutoAwq()
