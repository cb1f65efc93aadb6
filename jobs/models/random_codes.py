"""GPTQ and AWQ layers of the right format and shape with made-up codes, in seconds: for speed and memory only.

Why not quantize random weights: calibration takes minutes and would tell nothing. gptqmodel swaps the layers exactly as
it does for a checkpoint, and the codes are drawn where the checkpoint's would be read.

    model = packed(model, QuantizeConfig(bits=4, group_size=128), BACKEND.GPTQ_TRITON, "cuda", seed=0)
"""

from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from jobs.quantization.base import replace_linears

if TYPE_CHECKING:
    from transformers import PreTrainedModel

WEIGHT_STD = 0.02  # of random weights, as in jobs.models.random_weights
CODE_STD = 4.61  # of uniform codes 0 ... 15
MIDDLE = -2004318072  # 0x88888888: eight zero points of 8


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
def fill_codes(layer: nn.Module, group_size: int, generator: torch.Generator) -> None:
    """Codes uniform in 0 ... 15, zero points in the middle, scales that give the usual spread."""
    tensors = dict(layer.named_buffers()) | dict(layer.named_parameters())
    for name, tensor in tensors.items():
        if name == "qweight":
            tensor.random_(-(2**31), 2**31 - 1, generator=generator)
        elif name == "qzeros":
            tensor.fill_(MIDDLE)
        elif name == "scales":
            tensor.fill_(WEIGHT_STD / CODE_STD)
        elif name == "g_idx":
            tensor.copy_(torch.arange(tensor.numel(), device=tensor.device) // group_size)
