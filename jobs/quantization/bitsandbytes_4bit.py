"""NF4 and FP4 of bitsandbytes: 4-bit codes and one 32-bit scale for each 64 weights, 4.5 bits a weight; 4.127 bits when
the scales are quantized in turn (`double_quant`).

The physics: 3.6 times fewer bytes than 16 bit, so at best 3.6 times the decode speed; the codes are unpacked to the
compute dtype before each product, so prefill, bound by arithmetic, can only get slower.

    BACKEND.load(parse_quantization("nf4"), located, load)
"""

import copy
import logging
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from farm.cells import Load
from farm.quantization import Quantization
from jobs.quantization.base import Backend, load_pretrained, load_random, replace_linears, why_not_here

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from jobs.models.sources import Located

_PASCAL = (6, 0)


class FourBit(Backend):
    """`Linear4bit` in place of the linear layers; the head stays as it is."""

    names: tuple[str, ...] = ("nf4", "fp4")

    def why_not(self, wanted: Quantization, device: str) -> str | None:
        return why_not_here(device, "bitsandbytes", capability=_PASCAL)

    def dtype(self, wanted: Quantization, device: str) -> torch.dtype:
        return torch.bfloat16 if device == "cuda" else torch.float32

    def linear_classes(self, wanted: Quantization, device: str) -> tuple[str, ...]:
        return ("Linear4bit",)

    def load(self, wanted: Quantization, located: "Located", load: Load, seed: int = 0) -> "PreTrainedModel":
        logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
        dtype = self.dtype(wanted, load.device)
        if located.random is not None:
            model = load_random(located, dtype, load.device, seed)
            return replace_linears(model, lambda linear: _four_bit(linear, _config(wanted, dtype)))
        return load_pretrained(located, load, dtype, _config(wanted, dtype))

    def details(self, wanted: Quantization, model: "PreTrainedModel") -> dict[str, str]:
        told = {"group_size": "64", "double_quant": wanted["double_quant"]}
        return super().details(wanted, model) | told | _cpu_path(model)

    def dequantized(self, layer: nn.Module) -> torch.Tensor | None:
        import bitsandbytes as bnb

        if not isinstance(layer, bnb.nn.Linear4bit):
            return None
        return bnb.functional.dequantize_4bit(*_as_stored(layer.weight))  # type: ignore[no-any-return]


def _config(wanted: Quantization, dtype: torch.dtype) -> Any:
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type=wanted.name,
        bnb_4bit_compute_dtype=dtype,
        bnb_4bit_use_double_quant=wanted["double_quant"] == "on",
    )


def _four_bit(linear: nn.Linear, config: Any) -> nn.Module:
    """The same layer as the one that `from_pretrained` makes, from a weight that is already on its device."""
    import bitsandbytes as bnb

    new = bnb.nn.Linear4bit(
        linear.in_features,
        linear.out_features,
        bias=linear.bias is not None,
        compute_dtype=config.bnb_4bit_compute_dtype,
        compress_statistics=config.bnb_4bit_use_double_quant,
        quant_type=config.bnb_4bit_quant_type,
        quant_storage=config.bnb_4bit_quant_storage,
        device="meta",
    )
    blank = {name: value for name, value in vars(new.weight).items() if name != "data"}
    packed: Any = bnb.nn.Params4bit(linear.weight.data, **blank)
    new.weight = packed.to(linear.weight.device)
    new.bias = linear.bias
    return new.requires_grad_(False).eval()


def _cpu_path(model: "PreTrainedModel") -> dict[str, str]:
    """With AVX512-BF16 one kernel reads the codes; without, each product unpacks them first: ten times as long."""
    if model.device.type != "cpu":
        return {}
    fused = any(getattr(layer, "support_avx512bf16_for_cpu", False) for layer in model.modules())
    return {"path": "fused_bf16" if fused else "unpacked"}


def _as_stored(weight: Any) -> tuple[torch.Tensor, Any]:
    """Codes and scales in the order of a checkpoint. On a CPU with AVX512-BF16 the first product reorders both in place
    for its kernel; the library's way back changes the state it is given, so it gets a copy."""
    if not getattr(weight.quant_state, "packing_format_for_cpu", False):
        return weight.data, weight.quant_state
    from bitsandbytes.functional import _convert_weight_packed_for_cpu_inverse

    state = copy.copy(weight.quant_state)
    state.original_nested = False  # or it would quantize the scales once more
    codes, state = _convert_weight_packed_for_cpu_inverse(weight.data, state)
    state.absmax = weight.quant_state.absmax.T.contiguous().float().view(-1)
    return codes, state


BACKEND = FourBit()
