"""Which kernel computes what: by the device, the number of rows and the kind of weight.

The physics: one row is bound by the weight's bytes and runs as a product of the plain units; up to 64 rows the bytes
still decide but the tensor cores multiply; beyond that arithmetic decides, and nothing beats the vendor's large product
over 16-bit weights, expanded first (2 bytes written a weight, 0.08 ms for a layer of Llama-3-8B).

    y = linear(x, quantize_int4(w))             # x [rows, in] -> [rows, out]
    kernel_name(quantize_int4(w), 1, "cuda")    # 'triton-gemv-int4'
"""

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from jobs.turbo.kernels import reference
from jobs.turbo.weights import Dense, Int4, Int8, Weight, shape_of

_MOST_SKINNY_ROWS = 64
_HALVES = (torch.float16, torch.bfloat16)
_Path = Literal["gemv", "skinny", "matmul"]


@dataclass(frozen=True, slots=True)
class Norm:
    """An RMSNorm that a product applies to its input: `weight` [in]."""

    weight: Tensor
    eps: float


def linear(x: Tensor, weight: Weight, out: Tensor | None = None) -> Tensor:
    """x [rows, in] times the weight: [rows, out], in the type of x."""
    path = _path(weight, len(x), x.device.type, x.dtype)
    if path == "gemv":
        return _launch().gemv(x.contiguous(), weight, out)
    if path == "skinny":
        return _launch().skinny(x.contiguous(), weight, out)
    if x.device.type == "cuda" and not isinstance(weight, Dense) and _group_fits(weight, 8):
        return torch.matmul(x, _launch().dequantize(weight, x.dtype).T, out=out)
    return reference.linear(x, weight, out)


def fused_linear(
    x: Tensor, weight: Weight, norm: Norm | None = None, residual: Tensor | None = None, glu: bool = False
) -> Tensor:
    """RMSNorm of x, product, then silu(first half) * second half with `glu`, then + residual: [rows, out or out / 2].

    One kernel for one row on a GPU: it reads each intermediate from registers and rounds only the result.
    """
    if _path(weight, len(x), x.device.type, x.dtype) == "gemv":
        gain, eps = (None, 0.0) if norm is None else (norm.weight, norm.eps)
        return _launch().gemv(x.contiguous(), weight, None, gain, eps, residual, glu)
    y = linear(x if norm is None else rms_norm(x, norm.weight, norm.eps)[0], weight)
    y = silu_mul(y) if glu else y
    return y if residual is None else y + residual


def kernel_name(weight: Weight, rows: int, device: str | torch.device) -> str:
    """What serves a product of this many rows, for the result's row. 16-bit inputs assumed on a GPU."""
    kind, where = type(weight).__name__.lower(), torch.device(device).type
    path = _path(weight, rows, where, torch.float16)
    if path != "matmul":
        return f"triton-{path}-{kind}"
    library = "cublas" if where == "cuda" else "torch"
    return f"{library}-matmul" if kind == "dense" else f"{library}-matmul-dequantized-{kind}"


def rms_norm(x: Tensor, weight: Tensor, eps: float, residual: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """(the norm of y, y) for y = x + residual, over the last dimension."""
    if not x.is_cuda:
        return reference.rms_norm(x, weight, eps, residual)
    return _launch().rms_norm(x.contiguous(), weight, eps, None if residual is None else residual.contiguous())


def rope_and_append(
    qkv: Tensor, cos: Tensor, sin: Tensor, positions: Tensor, k_cache: Tensor, v_cache: Tensor
) -> Tensor:
    """Rotate, write keys and values to the contiguous caches [batch, kv_heads, max_len, dim], return the queries.

    qkv [rows, (heads + 2 * kv_heads) * dim]; cos, sin [positions, dim or dim / 2]; result [rows, heads, dim].
    Row r belongs to sequence r // (rows / batch) and stands at `positions[r % len(positions)]`.
    """
    if not qkv.is_cuda:
        return reference.rope_and_append(qkv, cos, sin, positions, k_cache, v_cache)
    return _launch().rope_and_append(qkv.contiguous(), cos, sin, positions, k_cache, v_cache)


def decode_attention(q: Tensor, k_cache: Tensor, v_cache: Tensor, length: Tensor, scale: float) -> Tensor:
    """One query a sequence, q [batch, heads, dim], over the first `length` rows of the contiguous caches.

    `length`: an integer tensor on the device, [batch] or one number. Result [batch, heads * dim].
    """
    if not q.is_cuda:
        return reference.decode_attention(q, k_cache, v_cache, length, scale)
    return _launch().decode_attention(q.contiguous(), k_cache, v_cache, length, scale)


def silu_mul(gate_up: Tensor) -> Tensor:
    """silu(first half) * second half of [rows, 2 * inner]: [rows, inner]."""
    return _launch().silu_mul(gate_up.contiguous()) if gate_up.is_cuda else reference.silu_mul(gate_up)


def _path(weight: Weight, rows: int, device: str, dtype: torch.dtype) -> _Path:
    """Dense products of several rows go to the vendor's library, which reads 16-bit weights at 65-95 % of the limit."""
    if device != "cuda" or dtype not in _HALVES or rows > _MOST_SKINNY_ROWS:
        return "matmul"
    columns = shape_of(weight)[1]
    if rows == 1:
        return "gemv" if columns % 16 == 0 and _group_fits(weight, 16) else "matmul"
    if isinstance(weight, Dense):
        return "matmul"
    return "skinny" if columns % 16 == 0 and _group_fits(weight, 64) else "matmul"


def _group_fits(weight: Weight, least: int) -> bool:
    """Tiles are powers of two; an operand of the tensor cores needs a quarter of a group to be 16."""
    if isinstance(weight, Int8 | Dense):
        return True
    return isinstance(weight, Int4) and weight.group >= least and weight.group & (weight.group - 1) == 0


def _launch() -> Any:
    """Triton is there with a CUDA build of torch only."""
    from jobs.turbo.kernels import launch

    return launch
