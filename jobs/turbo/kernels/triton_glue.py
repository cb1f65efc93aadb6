"""The small operations between the products, one kernel each: their bytes are few, so what they cost is the launch.

The physics: at batch 1 the vectors are 8 to 57 KB; at 3 TB/s that is nothing, while a kernel in a captured graph costs
1-2 us, some 40 us a token for each operation of a layer. So: addition and norm in one, rotation and cache write in
one. `dequantize` kernels write the 16-bit weight that a large matrix product reads: 2 bytes a weight at 3 TB/s.

    rms_norm_rows[(rows,)](x, residual, weight, normed, total, columns, eps, ...)
"""

# mypy: disable-error-code="no-untyped-def"
# Triton reads these functions as text; their types are the device's.

import triton
import triton.language as tl

from jobs.turbo.kernels.triton_order import order_kernels


@triton.jit
def rms_norm_rows(
    x, residual, weight, normed, total, columns, eps, BLOCK: tl.constexpr, RESIDUAL: tl.constexpr, PDL: tl.constexpr
):
    """One program a row of [rows, columns]. Sum and unit vector are rounded where the reference rounds them."""
    order_kernels(PDL)
    lane = tl.arange(0, BLOCK)
    inside = lane < columns
    at = tl.program_id(0).to(tl.int64) * columns + lane
    gain = tl.load(weight + lane, mask=inside, other=0.0)
    value = tl.load(x + at, mask=inside, other=0.0)
    if RESIDUAL:
        value = (value.to(tl.float32) + tl.load(residual + at, mask=inside, other=0.0).to(tl.float32)).to(value.dtype)
        tl.store(total + at, value, mask=inside)
    wide = value.to(tl.float32)
    unit = wide * tl.rsqrt(tl.sum(wide * wide) / columns + eps)
    rounded = unit.to(value.dtype).to(tl.float32) * gain.to(tl.float32)
    tl.store(normed + at, rounded.to(normed.dtype.element_ty), mask=inside)


@triton.jit
def silu_mul_rows(gate_up, out, inner, BLOCK: tl.constexpr, PDL: tl.constexpr):
    """Grid (rows, cdiv(inner, BLOCK)) over gate_up [rows, 2 * inner]."""
    order_kernels(PDL)
    lane = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = lane < inner
    row = tl.program_id(0).to(tl.int64)
    gate = tl.load(gate_up + row * 2 * inner + lane, mask=inside, other=0.0).to(tl.float32)
    up = tl.load(gate_up + row * 2 * inner + inner + lane, mask=inside, other=0.0).to(tl.float32)
    silu = (gate / (1.0 + tl.exp(-gate))).to(out.dtype.element_ty).to(tl.float32)
    tl.store(out + row * inner + lane, (silu * up).to(out.dtype.element_ty), mask=inside)


@triton.jit
def _stored(value, TYPE: tl.constexpr):
    """For the cache: what 8 bits cannot hold becomes the largest number that they can."""
    if TYPE == tl.float8e4nv:  # noqa: SIM300 (no constant: a type)
        value = tl.minimum(tl.maximum(value.to(tl.float32), -448.0), 448.0)
    return value.to(TYPE)


@triton.jit
def rope_and_append_heads(
    qkv, cos, sin, positions, query, keys, values, tokens, position_count, max_len, table_stride,
    HEADS: tl.constexpr, KV_HEADS: tl.constexpr, DIM: tl.constexpr, BLOCK_HALF: tl.constexpr,
    BLOCK_HEADS: tl.constexpr, PDL: tl.constexpr,
):  # fmt: skip
    """Grid (rows, cdiv(HEADS + 2 * KV_HEADS, BLOCK_HEADS)): a program moves BLOCK_HEADS heads of one row, so that it
    has kilobytes and not 256 bytes to ask for. Caches [batch, KV_HEADS, max_len, DIM]."""
    order_kernels(PDL)
    HALF: tl.constexpr = DIM // 2
    row = tl.program_id(0).to(tl.int64)
    head = tl.program_id(1) * BLOCK_HEADS + tl.arange(0, BLOCK_HEADS)[:, None]
    lane = tl.arange(0, BLOCK_HALF)
    inside = (lane < HALF)[None, :]
    real = inside & (head < HEADS + 2 * KV_HEADS)
    source = qkv + (row * (HEADS + 2 * KV_HEADS) + head) * DIM + lane[None, :]
    first, second = tl.load(source, mask=real), tl.load(source + HALF, mask=real)
    at = tl.load(positions + row % position_count).to(tl.int64)
    c = tl.load(cos + at * table_stride + lane, mask=lane < HALF).to(tl.float32)[None, :]
    s = tl.load(sin + at * table_stride + lane, mask=lane < HALF).to(tl.float32)[None, :]
    wide_first, wide_second = first.to(tl.float32), second.to(tl.float32)
    turned_first = (wide_first * c - wide_second * s).to(first.dtype)
    turned_second = (wide_second * c + wide_first * s).to(second.dtype)

    is_query = inside & (head < HEADS)
    target = query + (row * HEADS + head) * DIM + lane[None, :]
    tl.store(target, turned_first, mask=is_query)
    tl.store(target + HALF, turned_second, mask=is_query)

    cache_row = row // tokens * KV_HEADS * max_len + at
    is_key = inside & (head >= HEADS) & (head < HEADS + KV_HEADS)
    target = keys + (cache_row + (head - HEADS) * max_len) * DIM + lane[None, :]
    tl.store(target, _stored(turned_first, keys.dtype.element_ty), mask=is_key)
    tl.store(target + HALF, _stored(turned_second, keys.dtype.element_ty), mask=is_key)

    is_value = real & (head >= HEADS + KV_HEADS)
    target = values + (cache_row + (head - HEADS - KV_HEADS) * max_len) * DIM + lane[None, :]
    tl.store(target, _stored(first, values.dtype.element_ty), mask=is_value)
    tl.store(target + HALF, _stored(second, values.dtype.element_ty), mask=is_value)


@triton.jit
def dequantize_int4(
    packed, scales, zeros, out, words, GROUP: tl.constexpr, BLOCK: tl.constexpr, HAS_ZEROS: tl.constexpr
):
    """BLOCK int32 words a program, `words` in all, to [rows, columns] of the type of `out`."""
    WORDS: tl.constexpr = GROUP // 8
    word = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = word < words
    bits = tl.load(packed + word, mask=inside, other=0)
    group = word // WORDS
    scale = tl.load(scales + group, mask=inside, other=0.0).to(tl.float32)
    zero = tl.full([BLOCK], 8.0, tl.float32)
    if HAS_ZEROS:
        zero = tl.load(zeros + group, mask=inside, other=0.0).to(tl.float32)
    target = out + group * GROUP + 2 * (word % WORDS)
    for j in tl.static_range(4):
        low = (((bits >> (4 * j)) & 15).to(tl.float32) - zero) * scale
        high = (((bits >> (16 + 4 * j)) & 15).to(tl.float32) - zero) * scale
        pair = tl.join(low, high).to(out.dtype.element_ty)
        lanes = (target + j * (GROUP // 4))[:, None] + tl.arange(0, 2)[None, :]
        tl.store(lanes, pair, mask=inside[:, None] & (tl.arange(0, 2) >= 0)[None, :])


@triton.jit
def dequantize_int8(codes, scales, out, columns, BLOCK: tl.constexpr):
    """Grid (rows, cdiv(columns, BLOCK)): int8 [rows, columns] times scales [rows]."""
    row = tl.program_id(0).to(tl.int64)
    lane = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = lane < columns
    code = tl.load(codes + row * columns + lane, mask=inside, other=0).to(tl.float32)
    value = code * tl.load(scales + row).to(tl.float32)
    tl.store(out + row * columns + lane, value.to(out.dtype.element_ty), mask=inside)
