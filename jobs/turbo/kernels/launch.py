"""From tensors to launches: grids, scratch memory and flags of the Triton kernels. Nothing here waits for the host.

Imported only when tensors are on a GPU (or the interpreter runs the kernels on the CPU): it imports Triton.

Scratch counters are made at the first call on a device, so the first call must not be inside a graph capture, and two
streams must not run these kernels at once. torch's capture needs a warm-up outside of it anyway.

    gemv(x, weight)         # [1, out] on CUDA
"""

import os
from functools import cache
from typing import Any

import torch
import triton
from torch import Tensor

from jobs.turbo.kernels import configs, triton_attention, triton_gemv, triton_glue, triton_skinny
from jobs.turbo.kernels.configs import Attention, Gemv, Skinny
from jobs.turbo.weights import Dense, Int4, Int8, Weight, shape_of

_INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
_COUNTERS = 1 << 16
_FEW_ROWS = 64


def gemv(
    x: Tensor,
    weight: Weight,
    out: Tensor | None = None,
    gain: Tensor | None = None,
    eps: float = 0.0,
    residual: Tensor | None = None,
    glu: bool = False,
    config: Gemv | None = None,
) -> Tensor:
    """x [1, in] times the weight: [1, out], or [1, out / 2] with `glu`. `gain`: RMSNorm of x first, `residual`: add."""
    rows, columns = shape_of(weight)
    out = _output(x, 1, rows // 2 if glu else rows, out)
    cut = config or configs.gemv_config(type(weight).__name__.lower(), rows, columns)
    block_rows = max(cut.block_rows, 2 if glu else 1)
    kernel, arguments = _gemv_kernel(weight, x, x if gain is None else gain, cut)
    arguments |= _flags(
        out=out, residual=out if residual is None else residual, rows=rows, eps=eps, BLOCK_ROWS=block_rows,
        NORM=gain is not None, RESIDUAL=residual is not None, GLU=glu, num_warps=cut.warps,
    )  # fmt: skip
    kernel[(triton.cdiv(rows, block_rows),)](**arguments)
    return out


def _gemv_kernel(weight: Weight, x: Tensor, gain: Tensor, cut: Gemv) -> tuple[Any, dict[str, Any]]:
    """The kernel for this kind of weight, and the arguments that only it has."""
    columns = shape_of(weight)[1]
    if isinstance(weight, Dense):
        block = _tile(cut, 256, columns)
        more = {"weight": weight.weight, "columns": columns, "BLOCK_COLUMNS": block, "ONCE": block >= columns}
        return triton_gemv.dense_gemv, more | {"x": x, "gain": gain}
    pairs: dict[str, Any] = {"x": x.view(torch.int32), "gain": gain.view(torch.int32), "scales": weight.scales}
    pairs |= {"BF16": x.dtype == torch.bfloat16, "ASM": x.is_cuda}
    if isinstance(weight, Int8):
        words = columns // 4
        block = _tile(cut, 128, words)
        more = {"codes": weight.codes.view(torch.int32), "words": words, "BLOCK_WORDS": block, "ONCE": block >= words}
        return triton_gemv.int8_gemv, pairs | more
    groups = columns // weight.group
    block = _tile(cut, 1024 // weight.group, groups)
    more = {"packed": weight.packed, "groups": groups, "BLOCK_GROUPS": block, "ONCE": block >= groups}
    return triton_gemv.int4_gemv, pairs | more | _zeros(weight) | {"GROUP": weight.group}


def skinny(x: Tensor, weight: Weight, out: Tensor | None = None, config: Skinny | None = None) -> Tensor:
    """x [2 to 64, in] times the weight: [rows, out]."""
    batch, (rows, columns) = len(x), shape_of(weight)
    cut = config or configs.skinny_config(type(weight).__name__.lower(), rows, columns)
    out = _output(x, batch, rows, out)
    block_batch = max(16, triton.next_power_of_2(batch))
    parts = torch.empty(cut.splits * batch * rows if cut.splits > 1 else 1, dtype=torch.float32, device=x.device)
    common = _flags(
        x=x, out=out, parts=parts, done=counters(x.device), batch=batch, rows=rows, BLOCK_ROWS=cut.block_rows,
        BLOCK_BATCH=block_batch, SPLITS=cut.splits, BF16=x.dtype == torch.bfloat16, ASM=x.is_cuda, num_warps=cut.warps,
        num_stages=cut.stages,
    )  # fmt: skip
    grid = (triton.cdiv(rows, cut.block_rows), cut.splits)
    if isinstance(weight, Int4):
        triton_skinny.int4_skinny[grid](
            packed=weight.packed.view(torch.int16), scales=weight.scales, groups=columns // weight.group,
            GROUP=weight.group, **_zeros(weight), **common,
        )  # fmt: skip
        return out
    dense = isinstance(weight, Dense)
    values = weight.weight if isinstance(weight, Dense) else weight.codes
    triton_skinny.wide_skinny[grid](
        weight=values, scales=x if isinstance(weight, Dense) else weight.scales, columns=columns,
        BLOCK_COLUMNS=cut.block_columns, SCALED=not dense, **common,
    )  # fmt: skip
    return out


def dequantize(weight: Int8 | Int4, dtype: torch.dtype) -> Tensor:
    """What the weight stands for, [out, in], in one pass: 1 or 0.5 bytes read and 2 written a weight."""
    rows, columns = shape_of(weight)
    out = torch.empty(rows, columns, dtype=dtype, device=weight.scales.device)
    if isinstance(weight, Int8):
        grid = (rows, triton.cdiv(columns, 2048))
        triton_glue.dequantize_int8[grid](weight.codes, weight.scales, out, columns, BLOCK=2048)
        return out
    words = rows * columns // 8
    triton_glue.dequantize_int4[(triton.cdiv(words, 512),)](
        packed=weight.packed,
        scales=weight.scales,
        out=out,
        words=words,
        GROUP=weight.group,
        BLOCK=512,
        **_zeros(weight),
    )
    return out


def rms_norm(x: Tensor, weight: Tensor, eps: float, residual: Tensor | None) -> tuple[Tensor, Tensor]:
    """See the reference. Any leading dimensions."""
    columns = x.shape[-1]
    normed, total = torch.empty_like(x), x if residual is None else torch.empty_like(x)
    block = triton.next_power_of_2(columns)
    triton_glue.rms_norm_rows[(x.numel() // columns,)](
        x, x if residual is None else residual, weight, normed, total, columns, eps, BLOCK=block,
        num_warps=max(1, min(16, block // 512)), **_flags(RESIDUAL=residual is not None),
    )  # fmt: skip
    return normed, total


def silu_mul(gate_up: Tensor) -> Tensor:
    rows, inner = len(gate_up), gate_up.shape[1] // 2
    out = torch.empty(rows, inner, dtype=gate_up.dtype, device=gate_up.device)
    triton_glue.silu_mul_rows[(rows, triton.cdiv(inner, 1024))](gate_up, out, inner, BLOCK=1024, **_flags())
    return out


def rope_and_append(
    qkv: Tensor, cos: Tensor, sin: Tensor, positions: Tensor, k_cache: Tensor, v_cache: Tensor
) -> Tensor:
    rows, (batch, kv_heads, max_len, dim) = len(qkv), k_cache.shape
    heads = qkv.shape[1] // dim - 2 * kv_heads
    query = torch.empty(rows, heads, dim, dtype=qkv.dtype, device=qkv.device)
    block_heads = 16 if rows > _FEW_ROWS else 1  # of few rows every head gets a program: there is nothing else to do
    triton_glue.rope_and_append_heads[(rows, triton.cdiv(heads + 2 * kv_heads, block_heads))](
        qkv, cos, sin, positions, query, k_cache, v_cache, rows // batch, positions.numel(), max_len, cos.stride(0),
        HEADS=heads, KV_HEADS=kv_heads, DIM=dim, BLOCK_HALF=triton.next_power_of_2(dim // 2),
        BLOCK_HEADS=block_heads, num_warps=1 if block_heads == 1 else 4, **_flags(),
    )  # fmt: skip
    return query


def decode_attention(
    q: Tensor, k_cache: Tensor, v_cache: Tensor, length: Tensor, scale: float, config: Attention | None = None
) -> Tensor:
    (batch, heads, dim), (kv_heads, max_len) = q.shape, k_cache.shape[1:3]
    pairs, group = batch * kv_heads, heads // kv_heads
    cut = config or configs.attention_config(pairs, max_len)
    block_group, block_dim = max(16, triton.next_power_of_2(group)), max(16, triton.next_power_of_2(dim))
    out = torch.empty(batch, heads * dim, dtype=q.dtype, device=q.device)
    slots = pairs * cut.splits * block_group
    scratch = torch.empty(slots * (block_dim + 2), dtype=torch.float32, device=q.device)
    shares, maxima, totals = scratch.split([slots * block_dim, slots, slots])
    one_kernel = configs.ONE_ATTENTION_KERNEL
    common = _flags(
        length=length, out=out, shares=shares, maxima=maxima, totals=totals, kv_heads=kv_heads,
        length_stride=int(length.numel() > 1), GROUP=group, BLOCK_GROUP=block_group, DIM=dim, BLOCK_DIM=block_dim,
        BLOCK=cut.block, SPLITS=cut.splits, num_warps=cut.warps,
    )  # fmt: skip
    triton_attention.attend_share[(pairs, cut.splits)](
        q=q, keys=k_cache, values=v_cache, done=counters(q.device), max_len=max_len, scale=scale,
        ONE_KERNEL=one_kernel, num_stages=cut.stages, **common,
    )  # fmt: skip
    if not one_kernel:
        triton_attention.combine_shares[(pairs,)](**common)
    return out


@cache
def counters(device: torch.device) -> Tensor:
    """Zeros between launches: a kernel that counts its programs leaves zeros behind."""
    return torch.zeros(_COUNTERS, dtype=torch.int32, device=device)


@cache
def _programmatic_launch_works() -> bool:
    return not _INTERPRETED and torch.cuda.get_device_capability() >= (9, 0)


def _flags(**more: Any) -> dict[str, Any]:
    """Programmatic launch is a flag of the kernel and an attribute of its launch."""
    if configs.PROGRAMMATIC_LAUNCH and _programmatic_launch_works():
        return more | {"PDL": True, "launch_pdl": True}
    return more | {"PDL": False}


def _zeros(weight: Int4) -> dict[str, Any]:
    return {
        "zeros": weight.scales if weight.zeros is None else weight.zeros,
        "HAS_ZEROS": weight.zeros is not None,
    }


def _tile(cut: Gemv, per_warp: int, columns: int) -> int:
    """Units along a row in one tile: 16 bytes for each lane of each warp, but no more than the row has."""
    return min(max(1, cut.warps * cut.loads * per_warp), triton.next_power_of_2(columns))


def _output(x: Tensor, batch: int, columns: int, out: Tensor | None) -> Tensor:
    return torch.empty(batch, columns, dtype=x.dtype, device=x.device) if out is None else out
