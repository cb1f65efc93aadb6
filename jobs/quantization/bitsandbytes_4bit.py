"""NF4 of bitsandbytes: 4-bit normal-float codes and one 32-bit scale for each 64 weights, 4.5 bits a weight.

The physics: 3.6 times fewer bytes than 16 bit, so at best 3.6 times the decode speed; the codes are unpacked to the
compute dtype before each product, so prefill, bound by arithmetic, can only get slower.

    BACKEND.load(parse_quantization("nf4"), located, load)
"""

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


class NormalFloat4(Backend):
    """`Linear4bit` in place of the linear layers; the head stays as it is."""

    names: tuple[str, ...] = ("nf4",)

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
            return replace_linears(model, lambda linear: _nf4(linear, dtype))
        return load_pretrained(located, load, dtype, _config(dtype))


def _config(dtype: torch.dtype) -> Any:
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=dtype)


def _nf4(linear: nn.Linear, dtype: torch.dtype) -> nn.Module:
    """The same layer as the one that `from_pretrained` makes, from a weight that is already on its device."""
    import bitsandbytes as bnb

    config = _config(dtype)
    new = bnb.nn.Linear4bit(
        linear.in_features,
        linear.out_features,
        bias=linear.bias is not None,
        compute_dtype=dtype,
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


BACKEND = NormalFloat4()
