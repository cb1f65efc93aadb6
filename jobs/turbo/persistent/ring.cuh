// The stream of memory: one warp asks for all weights and all cached keys and values of a step, in the order of use.
//
// The physics: a step is bound by the bytes it reads, so reading must never pause. Weights do not depend on anything that
// the step computes, so they are asked for as far ahead as shared memory holds them (STAGES x 32 KiB a multiprocessor,
// 7 us of the whole memory bandwidth), across the points where blocks wait for each other.

struct Ring {
    Shared* shared;
    int stage = 0;
    u32 phase = 0;
    u64 full_cycles = 0;  // in which the one who asks had to wait, with TRACED

    DEVICE u8* data() { return shared->stage[stage]; }
    DEVICE Barrier* full() { return &shared->full[stage]; }

    DEVICE void next() {
        if (++stage == STAGES) {
            stage = 0;
            phase ^= 1;
        }
    }
    DEVICE void wait_until_empty() {
#if TRACED
        full_cycles -= cycles();
#endif
        barrier_wait(&shared->empty[stage], phase ^ 1);
#if TRACED
        full_cycles += cycles();
#endif
    }
    DEVICE void wait_until_full() { barrier_wait(&shared->full[stage], phase); }

    // By a whole warp that has read what it needs of this stage.
    DEVICE void release() {
        warp_sync();
        if (thread_number() % 32 == 0) barrier_arrive(&shared->empty[stage]);
        next();
    }
};

// Which tiles are this block's: every BLOCKS-th, and each product begins where the one before ended, so that the blocks
// that got one tile less take turns.
struct Turns {
    int before = 0;

    DEVICE int first() const { return (block_number() + BLOCKS - before) % BLOCKS; }
    DEVICE void pass(int tiles) { before = (before + tiles) % BLOCKS; }
};

// Rows of a tile: 16 in order, or (PAIRED) 8 of the gate and the same 8 of `up`, which stand ROWS / 2 further on.
template <int ROWS, bool PAIRED>
DEVICE u64 row_of(int tile, int row) {
    if (PAIRED) return static_cast<u64>(8) * tile + (row < 8 ? row : ROWS / 2 + row - 8);
    return static_cast<u64>(TILE) * tile + row;
}

template <int BITS, int ROWS, int COLUMNS, bool PAIRED>
DEVICE void ask_for_slice(Ring& ring, const Matrix& matrix, int tile, int slice) {
    constexpr int ROW = COLUMNS / 8 * BITS;
    const int lane = thread_number() % 32, at = slice * SLICE, bytes = least(SLICE, ROW - at);
    const u32 scales = BITS == 4 ? bytes * 4 / GROUP : 0;  // bytes of a row's scales
    ring.wait_until_empty();
    if (lane == 0) barrier_expect(ring.full(), TILE * (bytes + scales) + (BITS == 8 ? 2 * TILE : 0));
    warp_sync();
    if (lane < TILE) {
        copy_bulk(ring.data() + lane * PITCH, matrix.codes + row_of<ROWS, PAIRED>(tile, lane) * ROW + at, bytes, ring.full());
    } else if (BITS == 4) {
        const u16* from = matrix.scales + row_of<ROWS, PAIRED>(tile, lane - TILE) * (COLUMNS / GROUP) + at * 2 / GROUP;
        copy_bulk(ring.data() + SCALES_AT + (lane - TILE) * SCALES_PITCH, from, scales, ring.full());
    } else if (BITS == 8 && lane < TILE + 2) {
        const int half = 8 * (lane - TILE);
        copy_bulk(ring.data() + SCALES_AT + 2 * half, matrix.scales + row_of<ROWS, PAIRED>(tile, half), 16, ring.full());
    }
    ring.next();
}

template <int BITS, int ROWS, int COLUMNS, bool PAIRED>
DEVICE void ask_for_matrix(Ring& ring, Turns& turns, const Matrix& matrix) {
    constexpr int SLICES = rounds(COLUMNS / 8 * BITS, SLICE);
    for (int tile = turns.first(); tile < ROWS / TILE; tile += BLOCKS)
        for (int slice = 0; slice < SLICES; slice++) ask_for_slice<BITS, ROWS, COLUMNS, PAIRED>(ring, matrix, tile, slice);
    turns.pass(ROWS / TILE);
}

// The positions of a key/value head that a block attends to.
struct Share {
    int head, split, begin, end;

    DEVICE explicit Share(int position) {
        const int each = rounds(rounds(position, SPLITS), 16) * 16;
        head = block_number() / SPLITS, split = block_number() % SPLITS;
        begin = least(position, split * each), end = least(position, begin + each);
    }
    DEVICE bool is_mine() const { return head < KV_HEADS; }
    DEVICE u64 offset(const StepTable& step, int layer) const {  // in bytes, of the head's first position
        return ((static_cast<u64>(layer) * KV_HEADS + head) * step.max_len) * (2 * HEAD_DIM);
    }
};

DEVICE void ask_for_rows(Ring& ring, const u8* from, int rows) {
    ring.wait_until_empty();
    if (thread_number() % 32 == 0) {
        barrier_expect(ring.full(), rows * 2 * HEAD_DIM);
        copy_bulk(ring.data(), from, rows * 2 * HEAD_DIM, ring.full());
    }
    warp_sync();
    ring.next();
}

DEVICE void ask_for_cache(Ring& ring, const StepTable& step, const Share& share, int layer) {
    if (!share.is_mine()) return;
    const u64 head = share.offset(step, layer);
    for (int row = share.begin; row < share.end; row += CHUNK) {
        const u64 at = head + static_cast<u64>(row) * 2 * HEAD_DIM;
        const int rows = least(CHUNK, share.end - row);
        ask_for_rows(ring, step.keys + at, rows);
        ask_for_rows(ring, step.values + at, rows);
    }
}

DEVICE void ask_for_everything(const StepTable& step, Shared* shared, int position) {
    Ring ring{shared};
    Turns turns;
    const Share share(position);
    for (int layer = 0; layer < LAYERS; layer++) {
        const LayerTable& table = step.layer[layer];
        ask_for_matrix<LAYER_BITS, QKV, HIDDEN, false>(ring, turns, table.qkv);
        ask_for_cache(ring, step, share, layer);
        ask_for_matrix<LAYER_BITS, HIDDEN, ATTENDED, false>(ring, turns, table.out);
        ask_for_matrix<LAYER_BITS, 2 * INNER, HIDDEN, true>(ring, turns, table.gate_up);
        ask_for_matrix<LAYER_BITS, HIDDEN, INNER, false>(ring, turns, table.down);
#if TRACED
        if (thread_number() % 32 == 0) step.trace[(block_number() * LAYERS + layer) * MARKS + RING_FULL] = ring.full_cycles;
#endif
    }
    ask_for_matrix<HEAD_BITS, VOCAB, HIDDEN, false>(ring, turns, step.head);
}
