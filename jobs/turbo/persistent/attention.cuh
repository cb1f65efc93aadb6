// Attention of one token over the cache: each key/value head is shared by SPLITS blocks, each with a share of the positions.
//
// The physics: 8 KiB a position of Llama-3-8B, 17 MB at 2,048 positions a layer pair; what counts is that all blocks read.
// Keys are multiplied on the tensor cores, as rows of a matrix: all query heads of the group at once. The new token's
// own key and value are taken from where they were made, because the stream has asked for the cache long before.

constexpr float NOTHING = -1e30f;  // a maximum that any score beats, and finite: no NaN from a difference of two

// One warp's share: maxima and totals of heads 2t and 2t + 1, sums of dimensions LANE_DIMS * lane on of every head.
struct Seen {
    float maximum[2] = {NOTHING, NOTHING}, total[2] = {0, 0};
    float sums[SHARERS][LANE_DIMS] = {};
};

DEVICE AttentionScratch& scratch_of(Shared* shared) { return *reinterpret_cast<AttentionScratch*>(shared->inputs); }

// Rotate a pair (i, i + HEAD_DIM / 2); the table holds each angle twice.
DEVICE void rotate(u16& first, u16& second, float cos, float sin) {
    const float a = wide(first), b = wide(second);
    first = narrow(a * cos - b * sin);
    second = narrow(b * cos + a * sin);
}

// The rotated queries of the group (the rest of eight rows zero) and the new key and value, into shared memory; one block
// of each head writes them to the cache.
DEVICE void prepare_attention(Shared* shared, const StepTable& step, const Share& share, int layer, int position) {
    AttentionScratch& scratch = scratch_of(shared);
    constexpr int HALF = HEAD_DIM / 2;
    for (int i = thread_number(); i < 10 * HALF; i += CONSUMERS) {
        const int row = i / HALF, at = i % HALF;  // rows: 8 queries, key, value
        u16 first = 0, second = 0;
        if (row < SHARERS || row >= 8) {
            const int head = row < 8 ? share.head * SHARERS + row : HEADS + (row - 8) * KV_HEADS + share.head;
            first = load_fresh(step.qkv + head * HEAD_DIM + at), second = load_fresh(step.qkv + head * HEAD_DIM + at + HALF);
        }
        if (row < 9) {
            const u64 angle = static_cast<u64>(position) * step.rotary_stride + at;
            rotate(first, second, wide(step.cos[angle]), wide(step.sin[angle]));
        }
        u16* into = row < 8 ? scratch.query[row] : row == 8 ? scratch.key : scratch.value;
        into[at] = first, into[at + HALF] = second;
        if (row >= 8 && share.split == 0) {
            u8* cache = (row == 8 ? step.keys : step.values) + share.offset(step, layer);
            u16* line = reinterpret_cast<u16*>(cache) + static_cast<u64>(position) * HEAD_DIM;
            line[at] = first, line[at + HALF] = second;
        }
    }
    consumers_sync();
}

// Scores of 16 positions for the group's heads; lane 4g + t gets those of positions g and g + 8, heads 2t and 2t + 1.
DEVICE void score(const AttentionScratch& scratch, const u8* keys, float (&scores)[4]) {
    const int g = thread_number() % 32 / 4, t = thread_number() % 4;
    for (int at = 0; at < HEAD_DIM; at += 32) {
        const uint4 low = *reinterpret_cast<const uint4*>(keys + g * 2 * HEAD_DIM + 2 * at + 16 * t);
        const uint4 high = *reinterpret_cast<const uint4*>(keys + (g + 8) * 2 * HEAD_DIM + 2 * at + 16 * t);
        const uint4 x = *reinterpret_cast<const uint4*>(&scratch.query[g][at + 8 * t]);
        multiply_add(scores, low.x, high.x, low.y, high.y, x.x, x.y);
        multiply_add(scores, low.z, high.z, low.w, high.w, x.z, x.w);
    }
}

// Online softmax: new maxima, how much the old sums shrink, the weights of these positions. `rows` of 16 are real.
DEVICE void weigh(AttentionScratch& scratch, Seen& seen, const float (&scores)[4], int rows) {
    const int warp = thread_number() / 32, g = thread_number() % 32 / 4, t = thread_number() % 4;
    constexpr float FACTOR = SCALE * 1.4426950408889634f;  // to powers of two
    for (int i = 0; i < 2; i++) {
        const float low = g < rows ? scores[i] * FACTOR : NOTHING;
        const float high = g + 8 < rows ? scores[2 + i] * FACTOR : NOTHING;
        float largest = low > high ? low : high;
        for (int lanes = 4; lanes < 32; lanes *= 2) {
            const float other = shuffle_xor(largest, lanes);
            largest = largest > other ? largest : other;
        }
        const float maximum = largest > seen.maximum[i] ? largest : seen.maximum[i];
        const float shrink = exp2_fast(seen.maximum[i] - maximum);
        const float first = g < rows ? exp2_fast(low - maximum) : 0.0f;
        const float second = g + 8 < rows ? exp2_fast(high - maximum) : 0.0f;
        float total = first + second;
        for (int lanes = 4; lanes < 32; lanes *= 2) total += shuffle_xor(total, lanes);
        seen.maximum[i] = maximum;
        seen.total[i] = seen.total[i] * shrink + total;
        scratch.weights[warp][g][2 * t + i] = first;
        scratch.weights[warp][g + 8][2 * t + i] = second;
        if (g == 0) scratch.rescale[warp][2 * t + i] = shrink;
    }
    warp_sync();
}

DEVICE void gather(const AttentionScratch& scratch, Seen& seen, const u16* values, int rows) {
    const int warp = thread_number() / 32, lane = thread_number() % 32;
    for (int head = 0; head < SHARERS; head++)
        for (int i = 0; i < LANE_DIMS; i++) seen.sums[head][i] *= scratch.rescale[warp][head];
    for (int row = 0; row < rows; row++) {
        float value[LANE_DIMS];
        for (int i = 0; i < LANE_DIMS; i++) value[i] = wide(values[row * HEAD_DIM + lane * LANE_DIMS + i]);
        for (int head = 0; head < SHARERS; head++)
            for (int i = 0; i < LANE_DIMS; i++) seen.sums[head][i] += scratch.weights[warp][row][head] * value[i];
    }
    warp_sync();  // before the next positions' weights take the place of these
}

DEVICE void see_cache(Ring& ring, AttentionScratch& scratch, Seen& seen, const Share& share) {
    const int warp = thread_number() / 32;
    for (int from = share.begin; from < share.end; from += CHUNK) {
        const int rows = least(CHUNK, share.end - from);
        constexpr int BLOCKS_OF_16 = rounds(CHUNK / 16, WARPS);
        float scores[BLOCKS_OF_16][4] = {};
        ring.wait_until_full();
        for (int i = 0; i < BLOCKS_OF_16; i++) {
            const int row = 16 * (i * WARPS + warp);
            if (row < rows) score(scratch, ring.data() + row * 2 * HEAD_DIM, scores[i]);
        }
        ring.release();
        ring.wait_until_full();
        for (int i = 0; i < BLOCKS_OF_16; i++) {
            const int row = 16 * (i * WARPS + warp);
            if (row >= rows) continue;
            weigh(scratch, seen, scores[i], least(16, rows - row));
            gather(scratch, seen, reinterpret_cast<const u16*>(ring.data()) + row * HEAD_DIM, least(16, rows - row));
        }
        ring.release();
    }
}

// By one warp: the position that is not in the cache yet, as a tile of one row.
DEVICE void see_new_token(AttentionScratch& scratch, Seen& seen) {
    const int g = thread_number() % 32 / 4, t = thread_number() % 4;
    float scores[4] = {};
    for (int at = 0; at < HEAD_DIM; at += 32) {
        const uint4 none = {0, 0, 0, 0};
        const uint4 key = g == 0 ? *reinterpret_cast<const uint4*>(&scratch.key[at + 8 * t]) : none;
        const uint4 x = *reinterpret_cast<const uint4*>(&scratch.query[g][at + 8 * t]);
        multiply_add(scores, key.x, 0, key.y, 0, x.x, x.y);
        multiply_add(scores, key.z, 0, key.w, 0, x.z, x.w);
    }
    weigh(scratch, seen, scores, 1);
    gather(scratch, seen, scratch.value, 1);
}

// The warps' shares become the block's, in global memory.
DEVICE void merge_warps(Shared* shared, const StepTable& step, const Share& share, const Seen& seen) {
    AttentionScratch& scratch = scratch_of(shared);
    const int warp = thread_number() / 32, lane = thread_number() % 32;
    for (int i = 0; i < 2; i++) {
        const int head = 2 * (lane % 4) + i;
        if (lane < 4) scratch.maxima[warp][head] = seen.maximum[i], scratch.totals[warp][head] = seen.total[i];
    }
    for (int head = 0; head < SHARERS; head++)
        for (int i = 0; i < LANE_DIMS; i++) scratch.sums[warp][head][lane * LANE_DIMS + i] = seen.sums[head][i];
    consumers_sync();
    const int base = (share.head * SPLITS + share.split) * SHARERS;
    for (int i = thread_number(); i < SHARERS * HEAD_DIM; i += CONSUMERS) {
        const int head = i / HEAD_DIM, at = i % HEAD_DIM;
        float maximum = NOTHING, sum = 0, total = 0;
        for (int w = 0; w < WARPS; w++) maximum = scratch.maxima[w][head] > maximum ? scratch.maxima[w][head] : maximum;
        for (int w = 0; w < WARPS; w++) {
            const float shrink = exp2_fast(scratch.maxima[w][head] - maximum);
            sum += shrink * scratch.sums[w][head][at];
            total += shrink * scratch.totals[w][head];
        }
        step.share_sums[(base + head) * HEAD_DIM + at] = sum;
        if (at == 0) step.share_maxima[base + head] = maximum, step.share_totals[base + head] = total;
    }
}

// True in every thread of the last block of this head that comes here.
DEVICE bool is_last(Shared* shared, u32* counter, u32 blocks) {
    consumers_sync();
    if (thread_number() == 0) {
        publish();
        shared->flag = count_up(counter) == blocks - 1;
        publish();
    }
    consumers_sync();
    return shared->flag != 0;
}

DEVICE void merge_blocks(const StepTable& step, const Share& share) {
    const int base = share.head * SPLITS * SHARERS;
    for (int i = thread_number(); i < SHARERS * HEAD_DIM; i += CONSUMERS) {
        const int head = i / HEAD_DIM, at = i % HEAD_DIM;
        float maxima[SPLITS], totals[SPLITS], sums[SPLITS];
#pragma unroll
        for (int s = 0; s < SPLITS; s++) {
            const int from = base + s * SHARERS + head;
            maxima[s] = load_fresh(step.share_maxima + from), totals[s] = load_fresh(step.share_totals + from);
            sums[s] = load_fresh(step.share_sums + from * HEAD_DIM + at);
        }
        float maximum = NOTHING, sum = 0, total = 0;
#pragma unroll
        for (int s = 0; s < SPLITS; s++) maximum = maxima[s] > maximum ? maxima[s] : maximum;
#pragma unroll
        for (int s = 0; s < SPLITS; s++) {
            const float shrink = exp2_fast(maxima[s] - maximum);
            sum += shrink * sums[s];
            total += shrink * totals[s];
        }
        step.attended[(share.head * SHARERS + head) * HEAD_DIM + at] = narrow(sum / total);
    }
}

DEVICE void attend(Ring& ring, const StepTable& step, int layer, int position) {
    Shared* shared = ring.shared;
    const Share share(position);
    if (!share.is_mine()) return;
    prepare_attention(shared, step, share, layer, position);
    Seen seen;
    see_cache(ring, scratch_of(shared), seen, share);
    if (share.split == 0 && thread_number() < 32) see_new_token(scratch_of(shared), seen);
    merge_warps(shared, step, share, seen);
    if (!is_last(shared, step.shared_heads + share.head, SPLITS)) return;
    merge_blocks(step, share);
    if (thread_number() == 0) step.shared_heads[share.head] = 0;
}
