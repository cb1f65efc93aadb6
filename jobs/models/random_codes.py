"""GPTQ and AWQ layers of the right format and shape with made-up codes, in seconds: for speed and memory only.

Why not quantize random weights: calibration takes minutes and would tell nothing. gptqmodel swaps the layers exactly as
it does for a checkpoint, and the codes are drawn where the checkpoint's would be read.

    model = packed(model, QuantizeConfig(bits=4, group_size=128), BACKEND.GPTQ_TRITON, "cuda", seed=0)
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from jobs.quantization.base import replace_linears

if TYPE_CHECKING:
    from transformers import PreTrainedModel

WEIGHT_STD = 0.02  # of random weights, as in jobs.models.random_weights
CODE_STD = 4.32  # of uniform codes 1 ... 15
MIDDLE = 8
_BITS = 4


def packed(model: "PreTrainedModel", config: Any, backend: Any, device: str, seed: int) -> "PreTrainedModel":
    """The model with each linear layer but the head swapped for gptqmodel's, and ready to run."""
    from gptqmodel.models._const import DEVICE
    from gptqmodel.utils.model import gptqmodel_post_init, make_quant

    replace_linears(model, blank)
    head = model.get_output_embeddings()
    layers = {name: m for name, m in model.named_modules() if type(m) is nn.Linear and m is not head}
    kind = DEVICE.CUDA if device == "cuda" else DEVICE.CPU
    make_quant(model, config, layers, backend, "lm_head", device=kind, dtype=model.dtype)
    nn.Module.to(model, device)
    generator = torch.Generator(device=model.device).manual_seed(seed)
    for name in layers:
        fill_codes(model.get_submodule(name), config.group_size, generator)
    return gptqmodel_post_init(model, use_act_order=False, quantize_config=config).eval()  # type: ignore[no-any-return]


def blank(linear: nn.Linear) -> nn.Linear:
    """A layer of that shape on the CPU, where gptqmodel insists on finding it; its memory is never touched."""
    has_bias, dtype = linear.bias is not None, linear.weight.dtype
    shape = (linear.in_features, linear.out_features)
    return nn.utils.skip_init(nn.Linear, *shape, bias=has_bias, device="cpu", dtype=dtype)  # type: ignore[no-any-return]


@torch.no_grad()
def fill_codes(layer: nn.Module, group_size: int, generator: torch.Generator, stored_zero: int = MIDDLE) -> None:
    """Codes uniform in 1 ... 15 around a zero point of 8, scales that give the usual spread.

    Not 0 ... 15: their mean of 7.5 gives every weight of the model the same small offset, which adds up over thousands
    of inputs and, layer by layer, leaves float16. `stored_zero`: formats of old store a zero point less one.
    """
    tensors = dict(layer.named_buffers()) | dict(layer.named_parameters())
    for name, tensor in tensors.items():
        if name == "qweight":
            _draw(tensor, generator)
        elif name == "qzeros":
            _all_places(tensor, lambda: stored_zero)
        elif name == "scales":
            tensor.fill_(WEIGHT_STD / CODE_STD)
        elif name == "g_idx":
            tensor.copy_(torch.arange(tensor.numel(), device=tensor.device) // group_size)


def _draw(words: torch.Tensor, generator: torch.Generator) -> None:
    def codes() -> torch.Tensor:
        return torch.empty_like(words).random_(1, 1 << _BITS, generator=generator)

    _all_places(words, codes)


def _all_places(words: torch.Tensor, codes: Callable[[], torch.Tensor | int]) -> None:
    """Every 4-bit place of the packed integers; their order does not matter, as all are drawn alike."""
    words.zero_()
    for shift in range(0, 8 * words.element_size(), _BITS):
        words |= torch.as_tensor(codes(), dtype=words.dtype, device=words.device) << shift
