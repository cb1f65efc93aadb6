"""Weight-only INT8 and INT4 of torchao: quantized codes, 16-bit activations.

The physics: INT8 halves the bytes of a decode step, INT4 in groups of 128 with a scale and a zero point takes 4.25 bits
a weight. Unlike LLM.int8() nothing waits for the device. Run eagerly, torchao's INT8 unpacks the weights with plain
tensor operations and so moves more bytes than it saves: only a compiler fuses that away.

    BACKEND.load(parse_quantization("int8wo"), located, load)
"""

import contextlib
import io
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from farm.cells import Load
from farm.quantization import Quantization
from jobs.quantization.base import Backend, load_dense, why_not_here

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from jobs.models.sources import Located

_AMPERE = (8, 0)


class WeightOnly(Backend):
    """torchao changes the weight and leaves the layer's class alone: `Linear[Int8Tensor]`."""

    names: tuple[str, ...] = ("int8wo", "int4wo")

    def why_not(self, wanted: Quantization, device: str) -> str | None:
        if wanted.name == "int4wo" and device == "cpu":
            return "torchao's 4-bit kernel for the CPU is no longer there; use gptq, awq, nf4 or hqq"
        return why_not_here(device, "torchao", capability=_AMPERE)

    def dtype(self, wanted: Quantization, device: str) -> torch.dtype:
        """The 4-bit kernel (tinygemm) takes bf16 only."""
        return torch.bfloat16 if device == "cuda" else torch.float32

    def linear_classes(self, wanted: Quantization, device: str) -> tuple[str, ...]:
        return ("Linear[Int8Tensor]",) if wanted.name == "int8wo" else ("Linear[Int4TilePackedTo4dTensor]",)

    def load(self, wanted: Quantization, located: "Located", load: Load, seed: int = 0) -> "PreTrainedModel":
        return _quantized(load_dense(located, load, self.dtype(wanted, load.device), seed), wanted)

    def details(self, wanted: Quantization, model: "PreTrainedModel") -> dict[str, str]:
        scales = {} if wanted.group_size else {"scales": "one a row"}
        return super().details(wanted, model) | scales

    def dequantized(self, layer: nn.Module) -> torch.Tensor | None:
        """None for INT4: its tensor has only the method that every tensor has, and that one raises."""
        weight: Any = layer.weight
        kind = type(weight)
        if not hasattr(kind, "__tensor_flatten__") or kind.dequantize is torch.Tensor.dequantize:
            return None
        return weight.dequantize()  # type: ignore[no-any-return]


def _quantized(model: "PreTrainedModel", wanted: Quantization) -> "PreTrainedModel":
    """Layer by layer, each 16-bit weight freed before the next is read; not the head, as in every backend."""
    with contextlib.redirect_stderr(
        io.StringIO()
    ):  # on import it lists the compiled parts that are not for this device
        from torchao.quantization import quantize_

    config, head = _config(wanted), model.get_output_embeddings()

    def chosen(module: nn.Module, name: str) -> bool:
        return type(module) is nn.Linear and module is not head

    quantize_(model, config, filter_fn=chosen)
    return model.requires_grad_(False).eval()


def _config(wanted: Quantization) -> Any:
    from torchao.quantization import Int4WeightOnlyConfig, Int8WeightOnlyConfig

    if wanted.name == "int8wo":
        return Int8WeightOnlyConfig()
    return Int4WeightOnlyConfig(group_size=wanted.group_size, int4_packing_format="tile_packed_to_4d")


BACKEND = WeightOnly()
