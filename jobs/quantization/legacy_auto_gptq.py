"""AutoGPTQ, the package that made GPTQ usual, from the same checkpoint as `gptq`; archived in 2025.

The physics: as in `jobs.quantization.gptq_awq`. Its CUDA kernels are compiled for torch 2.2 and load beside no other;
without them its layer unpacks all its codes at every call, which moves more bytes than 16-bit weights do.

    BACKEND.load(parse_quantization("auto-gptq?group_size=64"), located, load)      # in its own environment only
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from farm.cells import Load
from farm.quantization import Quantization
from jobs.legacy.backend import LegacyBackend, quantized_layers
from jobs.quantization.gptq_awq import BITS, place

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class AutoGptq(LegacyBackend):
    """All its kernels are classes of one name; `kernel` in the row tells them apart."""

    names: tuple[str, ...] = ("auto-gptq",)
    package = "auto_gptq"
    stored_zero = 7  # one less than the true one

    def dtype(self, wanted: Quantization, device: str) -> torch.dtype:
        return torch.float16 if device == "cuda" else torch.float32

    def linear_classes(self, wanted: Quantization, device: str) -> tuple[str, ...]:
        return ("QuantLinear",)

    def from_checkpoint(self, folder: Path, load: Load, dtype: torch.dtype) -> "PreTrainedModel":
        from auto_gptq import AutoGPTQForCausalLM

        how = {"use_safetensors": True, "trust_remote_code": load.trust_remote_code}
        loaded = AutoGPTQForCausalLM.from_quantized(str(folder), device=place(load.device), torch_dtype=dtype, **how)
        for layer in quantized_layers(loaded.model):
            _name_sizes(layer)
        return loaded.model  # type: ignore[no-any-return]

    def empty_layer(self, linear: nn.Linear, group_size: int) -> nn.Module:
        from auto_gptq.nn_modules.qlinear.qlinear_cuda_old import QuantLinear

        dtype, device = linear.weight.dtype, linear.weight.device
        layer = QuantLinear(BITS, group_size, linear.in_features, linear.out_features, False, weight_dtype=dtype)
        return _name_sizes(layer).to(device)

    def details(self, wanted: Quantization, model: "PreTrainedModel") -> dict[str, str]:
        layer = quantized_layers(model)[0]
        compiled = getattr(layer, "autogptq_cuda_available", True)
        return super().details(wanted, model) | {"kernel": layer.QUANT_TYPE if compiled else "torch operations"}

    @torch.inference_mode()
    def dequantized(self, layer: nn.Module) -> torch.Tensor | None:
        """Eight codes lie in an int32; a stored zero point is one less than the true one."""
        packed: Any = layer
        shifts = torch.arange(0, 32, BITS, device=packed.qweight.device)
        codes = (packed.qweight.unsqueeze(1) >> shifts.view(1, -1, 1) & 15).flatten(0, 1)
        zeros = (packed.qzeros.unsqueeze(2) >> shifts & 15).flatten(1) + 1
        groups = packed.g_idx.long()
        weights: torch.Tensor = packed.scales[groups].float() * (codes - zeros[groups])
        return weights.T


def _name_sizes(layer: Any) -> nn.Module:
    """It spells them in a way of its own; under the usual names the rest of the farm sees a linear layer."""
    layer.in_features, layer.out_features = layer.infeatures, layer.outfeatures
    return layer  # type: ignore[no-any-return]


BACKEND = AutoGptq()
