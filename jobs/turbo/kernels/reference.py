"""What every kernel computes, in plain torch: the path on a CPU, and what the kernels are tested against.

Arithmetic is in float32 where the kernels accumulate in float32, and rounds where they round. Nothing here waits for
the host, so that it can be captured in a graph too.

    normed, residual = rms_norm(x, weight, 1e-5, residual)
"""

import torch
from torch import Tensor
from torch.nn import functional

from jobs.turbo.weights import Weight, dequantize


def linear(x: Tensor, weight: Weight, out: Tensor | None = None) -> Tensor:
    """x [rows, in] times the weight it stands for: [rows, out]."""
    return torch.matmul(x, dequantize(weight, x.dtype).T, out=out)


def rms_norm(x: Tensor, weight: Tensor, eps: float, residual: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """y = x + residual, rounded; (weight * y / sqrt(mean(y^2) + eps), y). Over the last dimension.

    Rounded before the weight is multiplied, as transformers' LlamaRMSNorm does (Zhang and Sennrich, 2019).
    """
    total = x if residual is None else x + residual
    wide = total.float()
    unit = wide * torch.rsqrt(wide.square().mean(dim=-1, keepdim=True) + eps)
    return weight * unit.to(x.dtype), total


def rope_and_append(
    qkv: Tensor, cos: Tensor, sin: Tensor, positions: Tensor, k_cache: Tensor, v_cache: Tensor
) -> Tensor:
    """Rotate queries and keys, write keys and values to the cache; the queries, [rows, heads, dim].

    qkv [rows, (heads + 2 * kv_heads) * dim]; cos, sin [positions, dim] or [positions, dim / 2]; caches [batch,
    kv_heads, max_len, dim]. Row r belongs to sequence r // (rows / batch), at `positions[r % len(positions)]`.
    """
    batch, kv_heads, _, dim = k_cache.shape
    heads = qkv.view(len(qkv), -1, dim)
    query, key, value = heads.split([heads.shape[1] - 2 * kv_heads, kv_heads, kv_heads], dim=1)
    rows = torch.arange(len(qkv), device=qkv.device)
    at = positions.reshape(-1)[rows % positions.numel()].long()
    owner = rows // (len(qkv) // batch)
    k_cache[owner, :, at] = _stored(_rotated(key, cos, sin, at), k_cache.dtype)
    v_cache[owner, :, at] = _stored(value, v_cache.dtype)
    return _rotated(query, cos, sin, at)


def decode_attention(q: Tensor, k_cache: Tensor, v_cache: Tensor, length: Tensor, scale: float) -> Tensor:
    """Attention of one query a sequence over the first `length` rows of its cache: [batch, heads * dim].

    q [batch, heads, dim]; `length`: [batch] or one number for all, on the device, at least 1.
    """
    batch, heads, dim = q.shape
    kv_heads, max_len = k_cache.shape[1:3]
    grouped = q.view(batch, kv_heads, heads // kv_heads, dim).float()
    scores = grouped @ k_cache.float().transpose(2, 3) * scale
    filled = torch.arange(max_len, device=q.device) < length.reshape(-1, 1)
    weights = scores.masked_fill(~filled[:, None, None], float("-inf")).softmax(dim=-1)
    return (weights @ v_cache.float()).to(q.dtype).view(batch, heads * dim)


def silu_mul(gate_up: Tensor) -> Tensor:
    """silu(gate) * up of [rows, 2 * inner], the gates first: [rows, inner]. Rounded between, as transformers does."""
    gate, up = gate_up.chunk(2, dim=-1)
    return functional.silu(gate) * up


def _stored(heads: Tensor, dtype: torch.dtype) -> Tensor:
    """torch makes a NaN of what 8 bits cannot hold; the largest number that they can is nearer."""
    if dtype.itemsize == 1:
        largest = torch.finfo(dtype).max
        heads = heads.clamp(-largest, largest)
    return heads.to(dtype)


def _rotated(heads: Tensor, cos: Tensor, sin: Tensor, at: Tensor) -> Tensor:
    """The halves of a head are the parts of complex numbers (Su et al., RoFormer, 2021; transformers' order)."""
    half = heads.shape[-1] // 2
    c, s = (table[at, None, :half].float() for table in (cos, sin))
    first, second = heads[..., :half].float(), heads[..., half:].float()
    return torch.cat([first * c - second * s, second * c + first * s], dim=-1).to(heads.dtype)
