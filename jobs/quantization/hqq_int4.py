"""HQQ: 4-bit codes found without calibration, by half-quadratic optimization of the rounding (Badri and Shaji, 2023).

The physics: as GPTQ's format, one scale and one zero point a group, so 3.6 times fewer bytes than 16 bit in groups of
64. Made at load in seconds. Its own plain path de-quantizes each layer into 16 bit before the product: it saves
memory, and no time.

    BACKEND.load(parse_quantization("hqq?group_size=64"), located, load)
"""

from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from farm.cells import Load
from farm.quantization import Quantization
from jobs.quantization.base import Backend, load_dense, replace_linears, why_not_here

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from jobs.models.sources import Located

BITS = 4


class Hqq(Backend):
    """`HQQLinear` in place of the linear layers; the head stays as it is."""

    names: tuple[str, ...] = ("hqq",)

    def why_not(self, wanted: Quantization, device: str) -> str | None:
        return why_not_here(device, "hqq")

    def dtype(self, wanted: Quantization, device: str) -> torch.dtype:
        return torch.float16 if device == "cuda" else torch.float32

    def linear_classes(self, wanted: Quantization, device: str) -> tuple[str, ...]:
        return ("HQQLinear",)

    def load(self, wanted: Quantization, located: "Located", load: Load, seed: int = 0) -> "PreTrainedModel":
        dtype = self.dtype(wanted, load.device)
        model = load_dense(located, load, dtype, seed)
        return replace_linears(model, lambda linear: _hqq(linear, wanted, dtype)).requires_grad_(False).eval()

    def details(self, wanted: Quantization, model: "PreTrainedModel") -> dict[str, str]:
        from hqq.core.quantize import HQQLinear

        return super().details(wanted, model) | {"path": str(HQQLinear.backend).rsplit(".", 1)[-1]}

    def dequantized(self, layer: nn.Module) -> torch.Tensor | None:
        dequantize: Any = getattr(layer, "dequantize", None)
        return dequantize() if type(layer).__name__ == "HQQLinear" else None


def _hqq(linear: nn.Linear, wanted: Quantization, dtype: torch.dtype) -> nn.Module:
    from hqq.core.quantize import BaseQuantizeConfig, HQQBackend, HQQLinear

    HQQLinear.set_backend(HQQBackend.PYTORCH)
    config = BaseQuantizeConfig(nbits=BITS, group_size=wanted.group_size, axis=1)
    device = str(linear.weight.device)
    layer: nn.Module = HQQLinear(linear, config, compute_dtype=dtype, device=device, del_orig=True)
    return layer


BACKEND = Hqq()
