"""Attention of one new token over the filled part of the cache: bound by the bytes of keys and values.

The physics: Llama-3-8B keeps 4,096 bytes of keys and values a token and layer; at 2,048 tokens that is 8.4 MB, 2.8 us
at 3 TB/s, if all multiprocessors read. Batch 1 has 8 groups of heads for 132 of them, so the sequence is cut too
("flash-decoding", Dao et al., 2023): each program reads one share for the 4 query heads of a group at once (keys are
read once, not 4 times) and leaves its maximum, its sum and its weighted values; then the shares are combined.

The length stands on the device, so that a captured graph serves every length: the grid is fixed, a share is length /
SPLITS rounded up to whole blocks, and programs past the end do nothing. With ONE_KERNEL the last program of a group to
finish (it counts them) combines; otherwise `combine_shares` does, one launch (1-2 us) more.

In 8 bit the values are read as 16-bit words of two lanes, which go through two products. A product wants its values by
column, and the hardware turns a tile on its way from shared memory in 16-bit words only; byte by byte it took 64 loads
a thread and block.

    attend_share[(batch * kv_heads, splits)](q, keys, values, length, ...)
"""

# mypy: disable-error-code="no-untyped-def"
# Triton reads these functions as text; their types are the device's.

import triton
import triton.language as tl

from jobs.turbo.kernels.triton_order import order_kernels

_LOG2_E = tl.constexpr(1.4426950408889634)


@triton.jit
def _share_rows(length, split, SPLITS: tl.constexpr, BLOCK: tl.constexpr):
    """First row and end of one share."""
    share = tl.cdiv(tl.cdiv(length, SPLITS), BLOCK) * BLOCK
    return split * share, tl.minimum((split + 1) * share, length)


@triton.jit
def _combine(
    out, shares, maxima, totals, filled, pair, GROUP: tl.constexpr, BLOCK_GROUP: tl.constexpr,
    DIM: tl.constexpr, BLOCK_DIM: tl.constexpr, BLOCK: tl.constexpr, SPLITS: tl.constexpr,
):  # fmt: skip
    """Weigh the shares of one group of heads by exp2(maximum) and add them. `pair`: batch * kv_heads + kv_head."""
    used = tl.cdiv(filled, tl.cdiv(tl.cdiv(filled, SPLITS), BLOCK) * BLOCK)
    head, lane = tl.arange(0, BLOCK_GROUP), tl.arange(0, BLOCK_DIM)
    best = tl.full([BLOCK_GROUP], float("-inf"), tl.float32)
    total = tl.zeros([BLOCK_GROUP], tl.float32)
    mixed = tl.zeros([BLOCK_GROUP, BLOCK_DIM], tl.float32)
    for split in range(used):
        at = (pair * SPLITS + split) * BLOCK_GROUP + head
        peak = tl.load(maxima + at, cache_modifier=".cg")
        higher = tl.maximum(best, peak)
        keep, take = tl.exp2(best - higher), tl.exp2(peak - higher)
        values = tl.load(shares + at[:, None] * BLOCK_DIM + lane[None, :], cache_modifier=".cg")
        mixed = mixed * keep[:, None] + values * take[:, None]
        total = total * keep + tl.load(totals + at, cache_modifier=".cg") * take
        best = higher
    target = out + (pair * GROUP + head)[:, None] * DIM + lane[None, :]
    inside = (head < GROUP)[:, None] & (lane < DIM)[None, :]
    tl.store(target, (mixed / total[:, None]).to(out.dtype.element_ty), mask=inside)


@triton.jit
def _tile(cache, start, row, end, lane, width):
    """Lanes of rows: 0 from row `end` and from lane `width` on."""
    inside = (row < end)[:, None] & (lane < width)[None, :]
    return tl.load(cache + (start + row[:, None] * width + lane[None, :]), mask=inside, other=0.0)


@triton.jit
def _even_and_odd(values, start, row, end, word, width, query):
    """Of 8-bit values, read in words of two: the lanes 0, 2, ... and the lanes 1, 3, ... in the query's type."""
    kind: tl.constexpr = values.dtype.element_ty
    words = _tile(values.to(tl.pointer_type(tl.int16)), start // 2, row, end, word, width // 2)
    even = words.to(tl.int8).to(kind, bitcast=True).to(query.dtype)
    return even, (words >> 8).to(tl.int8).to(kind, bitcast=True).to(query.dtype)


@triton.jit
def attend_share(
    q, keys, values, length, out, shares, maxima, totals, done, kv_heads, max_len, length_stride, scale,
    GROUP: tl.constexpr, BLOCK_GROUP: tl.constexpr, DIM: tl.constexpr, BLOCK_DIM: tl.constexpr,
    BLOCK: tl.constexpr, SPLITS: tl.constexpr, ONE_KERNEL: tl.constexpr, PDL: tl.constexpr,
):  # fmt: skip
    """Grid (batch * kv_heads, SPLITS). q [batch, kv_heads * GROUP, DIM]; caches [batch, kv_heads, max_len, DIM].

    shares [pairs, SPLITS, BLOCK_GROUP, BLOCK_DIM], maxima and totals [pairs, SPLITS, BLOCK_GROUP]: float32.
    """
    order_kernels(PDL)
    pair, split = tl.program_id(0), tl.program_id(1)
    filled = tl.load(length + pair // kv_heads * length_stride).to(tl.int32)
    begin, end = _share_rows(filled, split, SPLITS, BLOCK)
    if begin < end:
        head, lane, word = tl.arange(0, BLOCK_GROUP), tl.arange(0, BLOCK_DIM), tl.arange(0, BLOCK_DIM // 2)
        asked = (head < GROUP)[:, None] & (lane < DIM)[None, :]
        query = tl.load(q + (pair * GROUP + head)[:, None] * DIM + lane[None, :], mask=asked, other=0.0)
        base = pair.to(tl.int64) * max_len * DIM
        best = tl.full([BLOCK_GROUP], float("-inf"), tl.float32)
        total = tl.zeros([BLOCK_GROUP], tl.float32)
        mixed = tl.zeros([BLOCK_GROUP, BLOCK_DIM], tl.float32)
        even = tl.zeros([BLOCK_GROUP, BLOCK_DIM // 2], tl.float32)
        odd = tl.zeros([BLOCK_GROUP, BLOCK_DIM // 2], tl.float32)
        IN_8_BIT: tl.constexpr = values.dtype.element_ty.primitive_bitwidth == 8
        for first in range(begin, end, BLOCK):
            row = first + tl.arange(0, BLOCK)
            key = _tile(keys, base, row, end, lane, DIM).to(query.dtype)  # an 8-bit cache is widened here
            scores = tl.dot(query, tl.trans(key)) * (scale * _LOG2_E)
            scores = tl.where((row < end)[None, :], scores, float("-inf"))
            higher = tl.maximum(best, tl.max(scores, axis=1))
            keep = tl.exp2(best - higher)
            weights = tl.exp2(scores - higher[:, None])
            total = total * keep + tl.sum(weights, axis=1)
            if IN_8_BIT:
                first_of_two, second = _even_and_odd(values, base, row, end, word, DIM, query)
                even = tl.dot(weights.to(query.dtype), first_of_two, even * keep[:, None])
                odd = tl.dot(weights.to(query.dtype), second, odd * keep[:, None])
            else:
                mixed = tl.dot(weights.to(query.dtype), _tile(values, base, row, end, lane, DIM), mixed * keep[:, None])
            best = higher
        slot = (pair * SPLITS + split) * BLOCK_GROUP + head
        tl.store(maxima + slot, best, cache_modifier=".cg")
        tl.store(totals + slot, total, cache_modifier=".cg")
        mixed = tl.interleave(even, odd) if IN_8_BIT else mixed
        tl.store(shares + slot[:, None] * BLOCK_DIM + lane[None, :], mixed, cache_modifier=".cg")
    if ONE_KERNEL:
        tl.debug_barrier()  # every thread has stored before one of them counts
        if tl.atomic_add(done + pair, 1, sem="acq_rel") == SPLITS - 1:
            _combine(out, shares, maxima, totals, filled, pair, GROUP, BLOCK_GROUP, DIM, BLOCK_DIM, BLOCK, SPLITS)
            tl.store(done + pair, 0)  # for the next launch


@triton.jit
def combine_shares(
    length, out, shares, maxima, totals, kv_heads, length_stride,
    GROUP: tl.constexpr, BLOCK_GROUP: tl.constexpr, DIM: tl.constexpr, BLOCK_DIM: tl.constexpr,
    BLOCK: tl.constexpr, SPLITS: tl.constexpr, PDL: tl.constexpr,
):  # fmt: skip
    """Grid (batch * kv_heads,), after `attend_share`."""
    order_kernels(PDL)
    pair = tl.program_id(0)
    filled = tl.load(length + pair // kv_heads * length_stride).to(tl.int32)
    _combine(out, shares, maxima, totals, filled, pair, GROUP, BLOCK_GROUP, DIM, BLOCK_DIM, BLOCK, SPLITS)
