"""LLM.int8() of bitsandbytes: one byte a weight and one 32-bit scale an output row.

The physics: half the bytes of fp16, so at best twice the decode speed. In practice the activations are quantized at
each product and outlier columns (above 6.0) are computed apart in 16 bit, which reads back from the GPU in every layer
(the columns' number is not known before): this path waits for the device by design, whatever engine drives it.

    BACKEND.load(parse_quantization("int8"), located, load)
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

_TURING = (7, 5)  # the first GPUs with 8-bit tensor cores


class Int8(Backend):
    """`Linear8bitLt` in place of the linear layers; the head stays as it is."""

    names: tuple[str, ...] = ("int8",)

    def why_not(self, wanted: Quantization, device: str) -> str | None:
        return why_not_here(device, "bitsandbytes", capability=_TURING)

    def dtype(self, wanted: Quantization, device: str) -> torch.dtype:
        return torch.float16 if device == "cuda" else torch.float32

    def linear_classes(self, wanted: Quantization, device: str) -> tuple[str, ...]:
        return ("Linear8bitLt",)

    def load(self, wanted: Quantization, located: "Located", load: Load, seed: int = 0) -> "PreTrainedModel":
        # On the CPU it logs one line a product ("inputs will be cast"): 20,000 lines in a short run.
        logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
        dtype = self.dtype(wanted, load.device)
        if located.random is not None:
            return replace_linears(load_random(located, dtype, load.device, seed), _int8)
        return load_pretrained(located, load, dtype, _config())

    def details(self, wanted: Quantization, model: "PreTrainedModel") -> dict[str, str]:
        return super().details(wanted, model) | {"outlier_threshold": f"{_config().llm_int8_threshold:g}"}

    def dequantized(self, layer: nn.Module) -> torch.Tensor | None:
        """Codes times a row's largest magnitude over 127; both move from the weight to the state at the first call."""
        weight: Any = layer.weight
        state: Any = getattr(layer, "state", None)
        codes = getattr(state, "CB", None) if getattr(state, "CB", None) is not None else getattr(weight, "CB", None)
        scales = (
            getattr(state, "SCB", None) if getattr(state, "SCB", None) is not None else getattr(weight, "SCB", None)
        )
        return None if codes is None or scales is None else codes.float() * scales.float().unsqueeze(1) / 127


def _config() -> Any:
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(load_in_8bit=True)


def _int8(linear: nn.Linear) -> nn.Module:
    """Quantized where the weight lies: `Int8Params.to` would only quantize on the way from the CPU to the GPU."""
    import bitsandbytes as bnb

    new = bnb.nn.Linear8bitLt(
        linear.in_features,
        linear.out_features,
        bias=linear.bias is not None,
        has_fp16_weights=False,
        threshold=_config().llm_int8_threshold,
        device="meta",
    )
    codes, scales, _ = bnb.functional.int8_vectorwise_quant(linear.weight.data.to(torch.float16))
    new.weight = bnb.nn.Int8Params(codes, requires_grad=False, has_fp16_weights=False, CB=codes, SCB=scales)
    new.bias = linear.bias
    return new.requires_grad_(False).eval()


BACKEND = Int8()
