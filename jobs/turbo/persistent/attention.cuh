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

// Four halves and the four they rotate with, of one head of q, k or v, from the blocks that made them.
DEVICE void receive_rotated(const u32* head, int at, u16 (&first)[4], u16 (&second)[4]) {
    u32 low[2], high[2];
    while (!receive(head + at / 2, low) || !receive(head + (at + HEAD_DIM / 2) / 2, high)) wait_a_little();
    for (int i = 0; i < 4; i++) {
        first[i] = static_cast<u16>(low[i / 2] >> 16 * (i % 2));
        second[i] = static_cast<u16>(high[i / 2] >> 16 * (i % 2));
    }
}

DEVICE void put_rotated(u16* row, int at, const u16 (&first)[4], const u16 (&second)[4]) {
    for (int i = 0; i < 4; i++) row[at + i] = first[i], row[at + HEAD_DIM / 2 + i] = second[i];
}

// The rotated queries of the group (the rest of eight rows zero) and the new key and value, into shared memory; one block
// of each head writes them to the cache.
DEVICE void prepare_attention(Shared* shared, const StepTable& step, const LayerMail& mail, const Share& share, int layer,
                              int position) {
    AttentionScratch& scratch = scratch_of(shared);
    constexpr int FOURS = HEAD_DIM / 8;
    for (int i = thread_number(); i < 10 * FOURS; i += CONSUMERS) {
        const int row = i / FOURS, at = 4 * (i % FOURS);  // rows: 8 queries, key, value
        u16 first[4] = {}, second[4] = {};
        float cos[4], sin[4];  // read before anything is waited for
        const u64 angle = static_cast<u64>(position) * step.rotary_stride + at;
        for (int j = 0; j < 4; j++) cos[j] = wide(step.cos[angle + j]), sin[j] = wide(step.sin[angle + j]);
        if (row < SHARERS || row >= 8) {
            const int head = row < 8 ? share.head * SHARERS + row : HEADS + (row - 8) * KV_HEADS + share.head;
            receive_rotated(mail.qkv + head * (HEAD_DIM / 2), at, first, second);
        }
        for (int j = 0; j < 4 && row < 9; j++) rotate(first[j], second[j], cos[j], sin[j]);
        put_rotated(row < 8 ? scratch.query[row] : row == 8 ? scratch.key : scratch.value, at, first, second);
        if (row < 8 || share.split != 0) continue;
        u8* cache = (row == 8 ? step.keys : step.values) + share.offset(step, layer);
        put_rotated(reinterpret_cast<u16*>(cache) + static_cast<u64>(position) * HEAD_DIM, at, first, second);
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

// LANE_DIMS halves in order, read as one.
DEVICE void load_lane(const u16* from, float (&values)[LANE_DIMS]) {
    static_assert(LANE_DIMS == 2 || LANE_DIMS == 4, "heads of 64 or 128 dimensions");
    struct alignas(2 * LANE_DIMS) Halves {
        u16 half[LANE_DIMS];
    };
    const Halves halves = *reinterpret_cast<const Halves*>(from);
    for (int i = 0; i < LANE_DIMS; i++) values[i] = wide(halves.half[i]);
}

DEVICE void gather(const AttentionScratch& scratch, Seen& seen, const u16* values, int rows) {
    const int warp = thread_number() / 32, lane = thread_number() % 32;
    for (int head = 0; head < SHARERS; head++)
        for (int i = 0; i < LANE_DIMS; i++) seen.sums[head][i] *= scratch.rescale[warp][head];
#pragma unroll 4
    for (int row = 0; row < rows; row++) {
        float value[LANE_DIMS];
        load_lane(values + row * HEAD_DIM + lane * LANE_DIMS, value);
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

// The warps' shares become the block's, which every block of the head is sent.
DEVICE void send_share(Shared* shared, const LayerMail& mail, const Share& share, const Seen& seen) {
    AttentionScratch& scratch = scratch_of(shared);
    const int warp = thread_number() / 32, lane = thread_number() % 32;
    for (int i = 0; i < 2; i++) {
        const int head = 2 * (lane % 4) + i;
        if (lane < 4) scratch.maxima[warp][head] = seen.maximum[i], scratch.totals[warp][head] = seen.total[i];
    }
    for (int head = 0; head < SHARERS; head++)
        for (int i = 0; i < LANE_DIMS; i++) scratch.sums[warp][head][lane * LANE_DIMS + i] = seen.sums[head][i];
    consumers_sync();
    for (int i = thread_number(); i < SHARERS * HEAD_DIM; i += CONSUMERS) {
        const int head = i / HEAD_DIM, at = i % HEAD_DIM;
        float maximum = NOTHING, sum = 0, total = 0;
        for (int w = 0; w < WARPS; w++) maximum = scratch.maxima[w][head] > maximum ? scratch.maxima[w][head] : maximum;
        for (int w = 0; w < WARPS; w++) {
            const float shrink = exp2_fast(scratch.maxima[w][head] - maximum);
            sum += shrink * scratch.sums[w][head][at];
            total += shrink * scratch.totals[w][head];
        }
        u32* words = mail.share_of(share.head, share.split) + head * SHARE_PITCH;
        send(words + at, bits_of(sum));
        if (at == 0) send(words + HEAD_DIM, bits_of(maximum)), send(words + HEAD_DIM + 1, bits_of(total));
    }
}

// Each block of a head puts together some of its dimensions, two at a time: a lane a share.
constexpr int LANES = SPLITS > 16 ? 32 : SPLITS > 8 ? 16 : SPLITS > 4 ? 8 : 4;

struct Merged {  // of two neighbouring dimensions
    float maximum = NOTHING, total = 0, first = 0, second = 0;

    DEVICE void add(const Merged& other) {
        const float largest = maximum > other.maximum ? maximum : other.maximum;
        const float own = exp2_fast(maximum - largest), its = exp2_fast(other.maximum - largest);
        total = own * total + its * other.total;
        first = own * first + its * other.first, second = own * second + its * other.second;
        maximum = largest;
    }
    DEVICE void over_lanes() {
        for (int lanes = 1; lanes < LANES; lanes *= 2) {
            Merged other;
            other.maximum = shuffle_xor(maximum, lanes), other.total = shuffle_xor(total, lanes);
            other.first = shuffle_xor(first, lanes), other.second = shuffle_xor(second, lanes);
            add(other);
        }
    }
};

DEVICE Merged receive_share(const u32* head, int at) {
    u32 sums[2], rest[2];
    while (!receive(head + at, sums) || !receive(head + HEAD_DIM, rest)) wait_a_little();
    Merged share;
    share.maximum = of_bits(rest[0]), share.total = of_bits(rest[1]);
    share.first = of_bits(sums[0]), share.second = of_bits(sums[1]);
    return share;
}

DEVICE void merge_shares(const LayerMail& mail, const Share& share) {
    constexpr int TWOS = SHARERS * HEAD_DIM / 2, EACH = rounds(TWOS, SPLITS), AT_ONCE = CONSUMERS / LANES;
    const int end = least(TWOS, (share.split + 1) * EACH);
    for (int base = share.split * EACH; base < end; base += AT_ONCE) {  // the same for all lanes of a warp
        const int two = base + thread_number() / LANES, head = 2 * two / HEAD_DIM, at = 2 * two % HEAD_DIM;
        Merged merged;
        for (int split = thread_number() % LANES; split < SPLITS && two < end; split += LANES)
            merged.add(receive_share(mail.share_of(share.head, split) + head * SHARE_PITCH, at));
        merged.over_lanes();
        if (thread_number() % LANES != 0 || two >= end) continue;
        const u32 halves = pair_of(narrow(merged.first / merged.total), narrow(merged.second / merged.total));
        send(mail.attended + share.head * TWOS + two, halves);
    }
}

DEVICE void attend(Ring& ring, const StepTable& step, const LayerMail& mail, int layer, int position) {
    Shared* shared = ring.shared;
    const Share share(position);
    if (!share.is_mine()) return;
    prepare_attention(shared, step, mail, share, layer, position);
    Seen seen;
    see_cache(ring, scratch_of(shared), seen, share);
    if (share.split == 0 && thread_number() < 32) see_new_token(scratch_of(shared), seen);
    send_share(shared, mail, share, seen);
    mark(step, layer, SHARE_SENT);
    merge_shares(mail, share);
    consumers_sync();  // the scratch becomes the inputs of the next product
}
