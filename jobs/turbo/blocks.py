"""The layers, run over rows of activations; what differs between a prompt and a token is only how they attend.

Why two ways: for one row (decoding at batch 1) the products fuse what stands around them, RMSNorm before and SiLU or
the residual sum behind, so a layer is six kernels instead of nine. For more rows a kernel of its own for each is
cheaper than repeating the norm in every program of a product.

    hidden = run_layers(taken, shape, x, attend)        # [rows, hidden], and the residual that is still to be added
"""

from collections.abc import Callable

import torch
from torch import Tensor

from jobs.turbo import kernels
from jobs.turbo.kernels import Norm
from jobs.turbo.layers import Layer, Taken
from jobs.turbo.shape import Shape

# The layer's number and its [rows, qkv_width] in, [rows, heads * head_dim] out; it also fills the cache.
Attend = Callable[[int, Tensor], Tensor]
_ALL = slice(None)


def run_layers(taken: Taken, shape: Shape, x: Tensor, attend: Attend, kept: slice = _ALL) -> tuple[Tensor, Tensor]:
    """Embedded rows [rows, hidden] in; the last layer's output and the residual it must be added to, both alike.

    Of the last layer only the `kept` rows go on behind attention: of the others nobody reads more than keys and values.
    """
    eps = shape.norm_eps
    normed, residual = kernels.rms_norm(x, taken.layers[0].attention_norm, eps)
    for index, layer in enumerate(taken.layers):
        if index > 0:
            normed, residual = kernels.rms_norm(x, layer.attention_norm, eps, residual)
        qkv = finish_qkv(layer, shape, kernels.linear(normed, layer.qkv))
        attended = attend(index, qkv)
        if layer is taken.layers[-1]:
            attended, residual = attended[kept].contiguous(), residual[kept].contiguous()
        x = kernels.linear(attended, layer.out)
        normed, residual = kernels.rms_norm(x, layer.mlp_norm, eps, residual)
        x = kernels.linear(kernels.silu_mul(kernels.linear(normed, layer.gate_up)), layer.down)
    return x, residual


def run_layers_of_one_row(taken: Taken, shape: Shape, x: Tensor, attend: Attend) -> Tensor:
    """The same for [1, hidden]; the residual is added already."""
    eps = shape.norm_eps
    for index, layer in enumerate(taken.layers):
        qkv = kernels.fused_linear(x, layer.qkv, Norm(layer.attention_norm, eps))
        attended = attend(index, finish_qkv(layer, shape, qkv))
        x = kernels.fused_linear(attended, layer.out, residual=x)
        inner = kernels.fused_linear(x, layer.gate_up, Norm(layer.mlp_norm, eps), glu=True)
        x = kernels.fused_linear(inner, layer.down, residual=x)
    return x


def finish_qkv(layer: Layer, shape: Shape, qkv: Tensor) -> Tensor:
    """Add the biases and norm the heads where the family does so: [rows, qkv_width] again."""
    if layer.qkv_bias is not None:
        qkv = qkv + layer.qkv_bias
    if layer.query_norm is None or layer.key_norm is None:
        return qkv
    split = [shape.query_width, shape.query_width + shape.kv_heads * shape.head_dim]
    query, key, value = torch.tensor_split(qkv, split, dim=1)
    query, key = _normed(query, layer.query_norm, shape), _normed(key, layer.key_norm, shape)
    return torch.cat([query, key, value], dim=1)


def _normed(heads: Tensor, norm: Tensor, shape: Shape) -> Tensor:
    """Qwen3 norms each head by itself."""
    return kernels.rms_norm(heads.reshape(-1, shape.head_dim), norm, shape.norm_eps)[0].view_as(heads)
