"""A few rows times a weight matrix: still bound by the weight's bytes, but the products belong on the tensor cores.

The physics: at 16 rows a 4-bit weight takes part in 16 multiply-adds, 10e13 a second at full memory speed: three times
what the plain units do and a tenth of what the tensor cores do. So the weight tile is turned into a 16-bit operand in
registers (4-bit: see `triton_bits`; exact, unscaled), the products of a group are summed in float32, and the group's
scale is applied to the sum: one multiplication for 128 weights. The rows of x are padded to a tile of the tensor core.

Few programs would own few bytes in flight, so the inputs are cut into SPLITS parts. Each part leaves its sums in
`parts`; the last to finish (it counts them) adds them up in a fixed order, so that results repeat bit for bit.

    int4_skinny[(rows // 64, 4)](x, packed.view(torch.int16), ...)
"""

# mypy: disable-error-code="no-untyped-def"
# Triton reads these functions as text; their types are the device's.

import triton
import triton.language as tl

from jobs.turbo.kernels.triton_bits import int4_operands, int8_operand
from jobs.turbo.kernels.triton_order import order_kernels


@triton.jit
def _finish(
    sums, out, parts, done, batch, rows, BLOCK_ROWS: tl.constexpr, BLOCK_BATCH: tl.constexpr, SPLITS: tl.constexpr
):
    """sums [BLOCK_ROWS, BLOCK_BATCH]; out [batch, rows]; parts [SPLITS, batch, rows]; done: one counter a tile, 0."""
    row = tl.program_id(0) * BLOCK_ROWS + tl.arange(0, BLOCK_ROWS)[:, None]
    entry = tl.arange(0, BLOCK_BATCH)[None, :]
    at = entry * rows + row
    inside = (row < rows) & (entry < batch)
    if SPLITS == 1:
        tl.store(out + at, sums.to(out.dtype.element_ty), mask=inside)
    else:
        tl.store(parts + tl.program_id(1) * batch * rows + at, sums, mask=inside, cache_modifier=".cg")
        tl.debug_barrier()  # every thread has stored before one of them counts
        if tl.atomic_add(done + tl.program_id(0), 1, sem="acq_rel") == SPLITS - 1:
            total = tl.zeros([BLOCK_ROWS, BLOCK_BATCH], tl.float32)
            for split in tl.static_range(SPLITS):
                total += tl.load(parts + split * batch * rows + at, mask=inside, other=0.0, cache_modifier=".cg")
            tl.store(out + at, total.to(out.dtype.element_ty), mask=inside)
            tl.store(done + tl.program_id(0), 0)  # for the next launch


@triton.jit
def int4_skinny(
    x, packed, scales, zeros, out, parts, done, batch, rows, groups,
    GROUP: tl.constexpr, BLOCK_ROWS: tl.constexpr, BLOCK_BATCH: tl.constexpr, SPLITS: tl.constexpr,
    HAS_ZEROS: tl.constexpr, BF16: tl.constexpr, PDL: tl.constexpr, ASM: tl.constexpr,
):  # fmt: skip
    """x [batch, groups * GROUP]; packed: int16 [rows, groups * GROUP / 4]. One group an iteration."""
    QUARTER: tl.constexpr = GROUP // 4
    order_kernels(PDL)
    row = tl.program_id(0) * BLOCK_ROWS + tl.arange(0, BLOCK_ROWS)
    lane, entry = tl.arange(0, QUARTER), tl.arange(0, BLOCK_BATCH)
    line = packed + row.to(tl.int64)[:, None] * (groups * QUARTER) + lane[None, :]
    column = x + entry[None, :] * (groups * GROUP) + lane[:, None]
    real, there = row < rows, (entry < batch)[None, :]
    share = tl.cdiv(groups, SPLITS)
    first = tl.program_id(1) * share
    sums = tl.zeros([BLOCK_ROWS, BLOCK_BATCH], tl.float32)
    for group in range(first, tl.minimum(first + share, groups)):
        tile = tl.load(line + group * QUARTER, mask=real[:, None], other=0)
        scale = tl.load(scales + row * groups + group, mask=real, other=0.0).to(tl.float32)
        zero = tl.full([1, 1], 8.0, tl.float32)
        if HAS_ZEROS:
            zero = tl.load(zeros + row * groups + group, mask=real, other=0.0).to(tl.float32)[:, None]
        at = column + group * GROUP
        w0, w1, w2, w3 = int4_operands(tile, tl.broadcast_to(zero, [BLOCK_ROWS, QUARTER]), BF16, ASM)
        part = tl.dot(w0, tl.load(at, mask=there, other=0.0))
        part = tl.dot(w1, tl.load(at + QUARTER, mask=there, other=0.0), part)
        part = tl.dot(w2, tl.load(at + 2 * QUARTER, mask=there, other=0.0), part)
        part = tl.dot(w3, tl.load(at + 3 * QUARTER, mask=there, other=0.0), part)
        sums += part * scale[:, None]
    _finish(sums, out, parts, done, batch, rows, BLOCK_ROWS, BLOCK_BATCH, SPLITS)


@triton.jit
def wide_skinny(
    x, weight, scales, out, parts, done, batch, rows, columns,
    BLOCK_ROWS: tl.constexpr, BLOCK_BATCH: tl.constexpr, BLOCK_COLUMNS: tl.constexpr, SPLITS: tl.constexpr,
    SCALED: tl.constexpr, BF16: tl.constexpr, PDL: tl.constexpr, ASM: tl.constexpr,
):  # fmt: skip
    """weight [rows, columns] in 16 bit, or int8 codes with `scales` [rows] (SCALED), exact in either 16-bit type."""
    order_kernels(PDL)
    row = tl.program_id(0) * BLOCK_ROWS + tl.arange(0, BLOCK_ROWS)
    lane, entry = tl.arange(0, BLOCK_COLUMNS), tl.arange(0, BLOCK_BATCH)
    line = weight + row.to(tl.int64)[:, None] * columns + lane[None, :]
    column = x + entry[None, :] * columns + lane[:, None]
    real, there = (row < rows)[:, None], (entry < batch)[None, :]
    share = tl.cdiv(tl.cdiv(columns, BLOCK_COLUMNS), SPLITS) * BLOCK_COLUMNS
    first = tl.program_id(1) * share
    sums = tl.zeros([BLOCK_ROWS, BLOCK_BATCH], tl.float32)
    for start in range(first, tl.minimum(first + share, columns), BLOCK_COLUMNS):
        left = start + lane < columns
        tile = tl.load(line + start, mask=real & left[None, :], other=0)
        if SCALED:
            tile = int8_operand(tile, BF16, ASM)
        sums = tl.dot(tile, tl.load(column + start, mask=there & left[:, None], other=0.0), sums)
    if SCALED:
        sums *= tl.load(scales + row, mask=row < rows, other=0.0).to(tl.float32)[:, None]
    _finish(sums, out, parts, done, batch, rows, BLOCK_ROWS, BLOCK_BATCH, SPLITS)
