// The stream of memory: one warp asks for all weights and all cached keys and values of a step, in the order of use.
//
// The physics: a step is bound by the bytes it reads, so reading must never pause. Weights do not depend on anything that
// the step computes, so they are asked for as far ahead as shared memory holds them (STAGES x 32 KiB a multiprocessor,
// 7 us of the whole memory bandwidth), across the points where blocks wait for each other. With AHEAD_KIB a scout goes the
// same way before it and has the second-level cache fetch what will be asked for, so that memory works on while the ring
// is full.

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

// By one warp, a stage at a time: `begin` with its bytes, `bring` by any lane, `end`.
struct Asker {
    Ring ring;

    DEVICE void begin(u32 bytes) {
        ring.wait_until_empty();
        if (thread_number() % 32 == 0) barrier_expect(ring.full(), bytes);
        warp_sync();
    }
    DEVICE void bring(int at, const void* from, u32 bytes) { copy_bulk(ring.data() + at, from, bytes, ring.full()); }
    DEVICE void end() {
        if (AHEAD > 0 && thread_number() % 32 == 0) *static_cast<volatile u32*>(&ring.shared->asked) += 1;
        ring.next();
    }
    DEVICE void layer_is_asked_for(const StepTable& step, int layer) const {
#if TRACED
        if (thread_number() % 32 == 0) step.trace[(block_number() * LAYERS + layer) * MARKS + RING_FULL] = ring.full_cycles;
#endif
    }
};

// The same stages, AHEAD before they are asked for; one that is asked for already needs no scout.
struct Scout {
    Shared* shared;
    u32 number = 0;
    bool is_late = false;

    DEVICE u32 asked() const { return *static_cast<const volatile u32*>(&shared->asked); }
    DEVICE void begin(u32) {
        while (number >= asked() + AHEAD) rest();
        is_late = number < asked();
    }
    DEVICE void bring(int, const void* from, u32 bytes) {
        if (!is_late) fetch_ahead(from, bytes);
    }
    DEVICE void end() { number++; }
    DEVICE void layer_is_asked_for(const StepTable&, int) const {}
};

template <int BITS, int ROWS, int COLUMNS, bool PAIRED, class Taker>
DEVICE void ask_for_slice(Taker& taker, const Matrix& matrix, int tile, int slice) {
    constexpr int ROW = COLUMNS / 8 * BITS;
    const int lane = thread_number() % 32, at = slice * SLICE, bytes = least(SLICE, ROW - at);
    const u32 scales = BITS == 4 ? bytes * 4 / GROUP : 0;  // bytes of a row's scales
    taker.begin(TILE * (bytes + scales) + (BITS == 8 ? 2 * TILE : 0));
    if (lane < TILE) {
        taker.bring(lane * PITCH, matrix.codes + row_of<ROWS, PAIRED>(tile, lane) * ROW + at, bytes);
    } else if (BITS == 4) {
        const u16* from = matrix.scales + row_of<ROWS, PAIRED>(tile, lane - TILE) * (COLUMNS / GROUP) + at * 2 / GROUP;
        taker.bring(SCALES_AT + (lane - TILE) * SCALES_PITCH, from, scales);
    } else if (BITS == 8 && lane < TILE + 2) {
        const int half = 8 * (lane - TILE);
        taker.bring(SCALES_AT + 2 * half, matrix.scales + row_of<ROWS, PAIRED>(tile, half), 16);
    }
    taker.end();
}

// Tile by tile; of all tiles the first FIRST slices before the others. The matrix's addresses come by value: read through a
// reference, they would be read from memory again for each stage.
template <int BITS, int ROWS, int COLUMNS, bool PAIRED, int FIRST = 0, class Taker>
DEVICE void ask_for_matrix(Taker& taker, Turns& turns, const Matrix matrix) {
    constexpr int SLICES = rounds(COLUMNS / 8 * BITS, SLICE);
    for (int from = 0, to = FIRST; from < SLICES; from = to, to = SLICES)
        for (int tile = turns.first(); tile < ROWS / TILE; tile += BLOCKS)
            for (int slice = from; slice < to; slice++) ask_for_slice<BITS, ROWS, COLUMNS, PAIRED>(taker, matrix, tile, slice);
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

template <class Taker>
DEVICE void ask_for_rows(Taker& taker, const u8* from, int rows) {
    taker.begin(rows * 2 * HEAD_DIM);
    if (thread_number() % 32 == 0) taker.bring(0, from, rows * 2 * HEAD_DIM);
    taker.end();
}

template <class Taker>
DEVICE void ask_for_cache(Taker& taker, const StepTable& step, const Share& share, int layer) {
    if (!share.is_mine()) return;
    const u64 head = share.offset(step, layer);
    for (int row = share.begin; row < share.end; row += CHUNK) {
        const u64 at = head + static_cast<u64>(row) * 2 * HEAD_DIM;
        const int rows = least(CHUNK, share.end - row);
        ask_for_rows(taker, step.keys + at, rows);
        ask_for_rows(taker, step.values + at, rows);
    }
}

template <class Taker>
DEVICE void ask_for_everything(Taker& taker, const StepTable& step, int position) {
    Turns turns;
    const Share share(position);
    for (int layer = 0; layer < LAYERS; layer++) {
        const LayerTable& table = step.layer[layer];
        ask_for_matrix<LAYER_BITS, QKV, HIDDEN, false>(taker, turns, table.qkv);
        ask_for_cache(taker, step, share, layer);
        ask_for_matrix<LAYER_BITS, HIDDEN, ATTENDED, false>(taker, turns, table.out);
        ask_for_matrix<LAYER_BITS, 2 * INNER, HIDDEN, true>(taker, turns, table.gate_up);
        ask_for_matrix<LAYER_BITS, HIDDEN, INNER, false, EARLY_SLICES>(taker, turns, table.down);
        taker.layer_is_asked_for(step, layer);
    }
    ask_for_matrix<HEAD_BITS, VOCAB, HIDDEN, false>(taker, turns, step.head);
}
