"""One row times a weight matrix: bound by the bytes of the weight, so all else must hide behind the reads.

The physics: an H100 keeps 3.03 TB/s busy only with about 40 KB in flight on each of its 132 multiprocessors (Little's
law: 23 GB/s each times 1.5 us under load). Here a program of `warps` warps owns `block_rows` rows; a lane reads 16
bytes of each at once, so 4 warps x 8 rows are 16 KB asked for before the first is used. The next tile is asked for
before the current one is multiplied. Programs own whole rows: no second kernel adds up parts.

Fused here, because each would be a kernel of its own (1-2 us x 32 layers): the RMSNorm of the input (x * gain is
multiplied, and 1 / rms applied to the sum, which is the same product), SiLU(gate) * up, and the residual sum.

With `PDL` (programmatic dependent launch, Hopper) a program asks for its first weights before the kernel ahead has
ended, and waits only before it reads that kernel's output.

    int4_gemv[(rows // 8,)](x.view(torch.int32), weight.packed, ...)
"""

# mypy: disable-error-code="no-untyped-def"
# Triton reads these functions as text; their types are the device's.

import triton
import triton.language as tl
from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait

from jobs.turbo.kernels.triton_bits import int4_dot, int8_dot, join_half_pair, split_pair

# x is scaled by 1/16 before it becomes float16: 4 products of up to 16 * x then fit up to |x| = 16,000.
_SHRINK = tl.constexpr(0.0625)
_GROW = tl.constexpr(16.0)


@triton.jit
def _begin(PDL: tl.constexpr):
    if PDL:
        gdc_launch_dependents()


@triton.jit
def _wait(PDL: tl.constexpr):
    if PDL:
        gdc_wait()


@triton.jit
def _tile_rows(rows, BLOCK_ROWS: tl.constexpr, GLU: tl.constexpr):
    """Rows of the weight that this program owns. With GLU half of them gates, half the ups that belong to them."""
    lane = tl.arange(0, BLOCK_ROWS)
    if GLU:
        half: tl.constexpr = BLOCK_ROWS // 2
        in_half = tl.program_id(0) * half + lane % half
        return tl.where(in_half < rows // 2, in_half + (lane // half) * (rows // 2), rows)
    return tl.program_id(0) * BLOCK_ROWS + lane


@triton.jit
def _finish(total, squares, out, residual, rows, columns, eps, BLOCK_ROWS: tl.constexpr, NORM, RESIDUAL, GLU):
    """1 / rms, SiLU and the residual, then the only store. total [BLOCK_ROWS], squares: sum of x^2."""
    if NORM:
        total = total * tl.rsqrt(squares / columns + eps)
    if GLU:
        half: tl.constexpr = BLOCK_ROWS // 2
        gate, up = tl.split(tl.trans(tl.reshape(total, [2, half])))
        result = gate / (1.0 + tl.exp(-gate)) * up
        at = tl.program_id(0) * half + tl.arange(0, half)
        inside = at < rows // 2
    else:
        result = total
        at = tl.program_id(0) * BLOCK_ROWS + tl.arange(0, BLOCK_ROWS)
        inside = at < rows
    if RESIDUAL:
        result += tl.load(residual + at, mask=inside, other=0.0).to(tl.float32)
    tl.store(out + at, result.to(out.dtype.element_ty), mask=inside)


@triton.jit
def dense_gemv(
    x, weight, out, residual, gain, rows, columns, eps,
    BLOCK_ROWS: tl.constexpr, BLOCK_COLUMNS: tl.constexpr, ONCE: tl.constexpr, NORM: tl.constexpr,
    RESIDUAL: tl.constexpr, GLU: tl.constexpr, PDL: tl.constexpr,
):  # fmt: skip
    """weight [rows, columns], x, gain and out in 16 bit."""
    _begin(PDL)
    row = _tile_rows(rows, BLOCK_ROWS, GLU)
    lane = tl.arange(0, BLOCK_COLUMNS)
    line = weight + row.to(tl.int64)[:, None] * columns + lane[None, :]
    real = (row < rows)[:, None]
    tile = tl.load(line, mask=real & (lane < columns)[None, :], other=0)
    following = tile
    _wait(PDL)
    sums = tl.zeros([BLOCK_ROWS, BLOCK_COLUMNS], tl.float32)
    squares = tl.zeros([BLOCK_COLUMNS], tl.float32)
    for start in range(0, columns, BLOCK_COLUMNS):
        ahead = start + BLOCK_COLUMNS
        if not ONCE:
            following = tl.load(line + ahead, mask=real & (ahead + lane < columns)[None, :], other=0)
        inside = start + lane < columns
        values = tl.load(x + start + lane, mask=inside, other=0.0).to(tl.float32)
        if NORM:
            squares += values * values
            values *= tl.load(gain + start + lane, mask=inside, other=0.0).to(tl.float32)
        sums += tile.to(tl.float32) * values[None, :]
        tile = following
    total = tl.sum(sums, axis=1)
    _finish(total, tl.sum(squares), out, residual, rows, columns, eps, BLOCK_ROWS, NORM, RESIDUAL, GLU)


@triton.jit
def _float_quads(x, start, words, BLOCK_WORDS: tl.constexpr, BF16: tl.constexpr):
    """Four inputs for each of BLOCK_WORDS words of four codes, as float32. x: 16-bit pairs as int32."""
    lane = tl.arange(0, 2 * BLOCK_WORDS)
    pairs = tl.load(x + 2 * start + lane, mask=2 * start + lane < 2 * words, other=0)
    front, back = tl.split(tl.reshape(pairs, [BLOCK_WORDS, 2]))
    x0, x1 = split_pair(front, BF16)
    x2, x3 = split_pair(back, BF16)
    return x0, x1, x2, x3


@triton.jit
def int8_gemv(
    x, codes, scales, out, residual, gain, rows, words, eps,
    BLOCK_ROWS: tl.constexpr, BLOCK_WORDS: tl.constexpr, ONCE: tl.constexpr, BF16: tl.constexpr,
    NORM: tl.constexpr, RESIDUAL: tl.constexpr, GLU: tl.constexpr, PDL: tl.constexpr, ASM: tl.constexpr,
):  # fmt: skip
    """codes: four int8 an int32, [rows, words]; scales [rows]; x, gain: 16-bit pairs as int32."""
    _begin(PDL)
    row = _tile_rows(rows, BLOCK_ROWS, GLU)
    lane = tl.arange(0, BLOCK_WORDS)
    line = codes + row.to(tl.int64)[:, None] * words + lane[None, :]
    real = (row < rows)[:, None]
    tile = tl.load(line, mask=real & (lane < words)[None, :], other=0)
    following = tile
    scale = tl.load(scales + row, mask=row < rows, other=0.0).to(tl.float32)
    _wait(PDL)
    sums = tl.zeros([BLOCK_ROWS, BLOCK_WORDS], tl.float32)
    squares = tl.zeros([BLOCK_WORDS], tl.float32)
    for start in range(0, words, BLOCK_WORDS):
        ahead = start + BLOCK_WORDS
        if not ONCE:
            following = tl.load(line + ahead, mask=real & (ahead + lane < words)[None, :], other=0)
        x0, x1, x2, x3 = _float_quads(x, start, words, BLOCK_WORDS, BF16)
        if NORM:
            squares += x0 * x0 + x1 * x1 + x2 * x2 + x3 * x3
            g0, g1, g2, g3 = _float_quads(gain, start, words, BLOCK_WORDS, BF16)
            x0, x1, x2, x3 = x0 * g0, x1 * g1, x2 * g2, x3 * g3
        sums += int8_dot(tile, x0[None, :], x1[None, :], x2[None, :], x3[None, :], ASM)
        tile = following
    total = tl.sum(sums, axis=1) * scale
    _finish(total, tl.sum(squares), out, residual, rows, words * 4, eps, BLOCK_ROWS, NORM, RESIDUAL, GLU)


@triton.jit
def _half_pairs(x, gain, at, inside, BF16: tl.constexpr, NORM: tl.constexpr, ASM: tl.constexpr):
    """Pairs of inputs as float16 pairs, scaled, and the sum of their squares."""
    low, high = split_pair(tl.load(x + at, mask=inside, other=0), BF16)
    squares = low * low + high * high
    if NORM:
        gain_low, gain_high = split_pair(tl.load(gain + at, mask=inside, other=0), BF16)
        low, high = low * gain_low, high * gain_high
    return join_half_pair(low * _SHRINK, high * _SHRINK, ASM), squares


@triton.jit
def int4_gemv(
    x, packed, scales, zeros, out, residual, gain, rows, groups, eps,
    GROUP: tl.constexpr, BLOCK_ROWS: tl.constexpr, BLOCK_GROUPS: tl.constexpr, ONCE: tl.constexpr,
    HAS_ZEROS: tl.constexpr, BF16: tl.constexpr, NORM: tl.constexpr, RESIDUAL: tl.constexpr, GLU: tl.constexpr,
    PDL: tl.constexpr, ASM: tl.constexpr,
):  # fmt: skip
    """x, gain: 16-bit pairs as int32; packed, scales, zeros as in `Int4`; groups: those of a row.

    Tiles are flat along a row (a lane reads 4 words in order); only sums and scales know groups.
    """
    _begin(PDL)
    WORDS: tl.constexpr = GROUP // 8
    LANES: tl.constexpr = BLOCK_GROUPS * WORDS
    row = _tile_rows(rows, BLOCK_ROWS, GLU)[:, None]
    group, flat = tl.arange(0, BLOCK_GROUPS)[None, :], tl.arange(0, LANES)
    line = packed + row.to(tl.int64) * (groups * WORDS) + flat[None, :]
    pair = flat // WORDS * (GROUP // 2) + flat % WORDS
    tile = tl.load(line, mask=(row < rows) & (flat < groups * WORDS)[None, :], other=0)
    following = tile
    _wait(PDL)
    sums = tl.zeros([BLOCK_ROWS, BLOCK_GROUPS, WORDS], tl.float32)
    squares = tl.zeros([LANES], tl.float32)
    for start in range(0, groups, BLOCK_GROUPS):
        ahead = (start + BLOCK_GROUPS) * WORDS
        if not ONCE:
            following = tl.load(line + ahead, mask=(row < rows) & (ahead + flat < groups * WORDS)[None, :], other=0)
        here = (row < rows) & (start + group < groups)
        scale = tl.load(scales + row * groups + start + group, mask=here, other=0.0).to(tl.float32)
        zero = tl.full([1, 1], 8.0, tl.float32)
        if HAS_ZEROS:
            zero = tl.load(zeros + row * groups + start + group, mask=here, other=0.0).to(tl.float32)
            zero = tl.broadcast_to(zero[:, :, None], [BLOCK_ROWS, BLOCK_GROUPS, WORDS])
            zero = tl.reshape(zero, [BLOCK_ROWS, LANES])
        at, inside = start * (GROUP // 2) + pair, start * WORDS + flat < groups * WORDS
        x0, s0 = _half_pairs(x, gain, at, inside, BF16, NORM, ASM)
        x1, s1 = _half_pairs(x, gain, at + WORDS, inside, BF16, NORM, ASM)
        x2, s2 = _half_pairs(x, gain, at + 2 * WORDS, inside, BF16, NORM, ASM)
        x3, s3 = _half_pairs(x, gain, at + 3 * WORDS, inside, BF16, NORM, ASM)
        products = int4_dot(tile, x0[None, :], x1[None, :], x2[None, :], x3[None, :], zero, ASM)
        sums += tl.reshape(products, [BLOCK_ROWS, BLOCK_GROUPS, WORDS]) * scale[:, :, None]
        if NORM:
            squares += s0 + s1 + s2 + s3
        tile = following
    total = tl.sum(tl.reshape(sums, [BLOCK_ROWS, LANES]), axis=1) * _GROW
    _finish(total, tl.sum(squares), out, residual, rows, groups * GROUP, eps, BLOCK_ROWS, NORM, RESIDUAL, GLU)
