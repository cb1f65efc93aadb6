"""EXL3 of exllamav3: 4 bits a weight from a trellis code, from a checkpoint that its own converter has made.

The physics: weights are turned by a Hadamard matrix until they look like noise, and tiles of 16 x 16 of them are coded
as one path through a trellis (after QTIP, Tseng et al., arXiv 2406.11235); no groups, next to no scales. Up to 144 rows
a kernel decodes and multiplies at once, beyond that the 16-bit weights are rebuilt first. The package registers itself
as a quantizer of transformers, so the model is an ordinary one with its layers in it.

    BACKEND.load(parse_quantization("exl3"), locate(parse_model("/models/Llama-3-8B-exl3-4bpw")), load)

Written from the source of exllamav3 1.6.5 and tested against stand-ins: no machine of this project has run it.
"""

import shutil
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from farm.cells import Load
from farm.errors import Unsupported
from farm.quantization import Quantization
from jobs.quantization.base import Backend, load_pretrained, why_not_here

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from jobs.models.sources import Located

BITS = 4
_AMPERE = (8, 0)


class Exl3(Backend):
    """The checkpoint decides what is quantized: by default the head, too, in 6 bits."""

    names: tuple[str, ...] = ("exl3",)

    def why_not(self, wanted: Quantization, device: str) -> str | None:
        if device == "cpu":
            return "exllamav3 has kernels for CUDA GPUs only; use gptq, awq, nf4 or hqq"
        no_gpu = why_not_here(device, capability=_AMPERE)
        return no_gpu or why_not_here(device, "exllamav3") or _why_not_compiled()

    def dtype(self, wanted: Quantization, device: str) -> torch.dtype:
        return torch.float16

    def linear_classes(self, wanted: Quantization, device: str) -> tuple[str, ...]:
        return ("Exl3HfLinear",)

    def load(self, wanted: Quantization, located: "Located", load: Load, seed: int = 0) -> "PreTrainedModel":
        from jobs.checkpoints import quantization_config, require_same

        if (quantization_config(located) or {}).get("quant_method") != "exl3":
            raise Unsupported(
                f"{load.model} is no EXL3 checkpoint, and the farm makes none; convert it with exllamav3's own "
                f"`convert.py -b {BITS}` and name that folder as the model"
            )
        require_same(wanted, located, "exl3", BITS)
        from exllamav3.integration.transformers import register

        register()
        return load_pretrained(located, load, self.dtype(wanted, load.device))

    @torch.inference_mode()
    def dequantized(self, layer: nn.Module) -> torch.Tensor | None:
        dequantize: Any = getattr(layer, "dequantized_weight", None)
        return None if dequantize is None else dequantize().T


def _why_not_compiled() -> str | None:
    if find_spec("exllamav3_ext") is not None or shutil.which("nvcc") is not None:
        return None
    return (
        "its kernels are compiled with nvcc on first use, which is not here; install a release of exllamav3 that "
        "brings them compiled for this torch"
    )


BACKEND = Exl3()
