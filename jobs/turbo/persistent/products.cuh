// Tiles of a matrix times one vector, on the tensor cores, which here only save instructions.
//
// The physics: at full bandwidth 46 four-bit weights reach a multiprocessor each nanosecond, 27 a cycle. Turning eight of
// them into halves takes five integer instructions (64 lanes a cycle do those: 100 weights a cycle); multiplying them
// one by one would double that, an mma takes 256 at once and adds in 32 bit. Its eight columns all hold the same vector.
//
// Codes become halves by their bits: 1024 + code is the half 0x6400 | code, 1024 + 16 code is 0x6400 | code << 4. What the
// 1024 (and the zero point) add is known: the sum of the inputs, a `correction` of each piece, made when they were staged.

DEVICE u32 pair_of_halves(u32 word, u32 mask) { return and_or(word, mask, 0x64006400u); }

// A lane's inputs of a piece: with three others it has all that 64 bytes of each row are multiplied with.
template <int BITS>
struct Inputs {
    uint4 part[16 / BITS];

    DEVICE explicit Inputs(const u16* inputs) {
        const int t = thread_number() % 4;
        for (int i = 0; i < 16 / BITS; i++)
            part[i] = *reinterpret_cast<const uint4*>(inputs + (BITS == 4 ? 32 * i + 8 * t : 128 / BITS * t + 8 * i));
    }
};

// A lane's 16 bytes of row g and of row g + 8 of a piece.
struct Weights {
    uint4 low, high;

    DEVICE Weights(const u8* stage, int piece) {
        const int g = thread_number() % 32 / 4, t = thread_number() % 4;
        low = *reinterpret_cast<const uint4*>(stage + g * PITCH + piece * PIECE + 16 * t);
        high = *reinterpret_cast<const uint4*>(stage + (g + 8) * PITCH + piece * PIECE + 16 * t);
    }
};

// A warp's sums of a tile: lane 4 g + t holds those of row g and row g + 8, each of the four t the same.
struct TileSums {
    float low = 0, high = 0;
};

template <int BITS>
struct Pieces;

template <>
struct Pieces<16> {
    float sums[4] = {0, 0, 0, 0};

    DEVICE void add(const u8* stage, int piece, const Inputs<16>& x, const float*) {
        const Weights w(stage, piece);
        multiply_add(sums, w.low.x, w.high.x, w.low.y, w.high.y, x.part[0].x, x.part[0].y);
        multiply_add(sums, w.low.z, w.high.z, w.low.w, w.high.w, x.part[0].z, x.part[0].w);
    }
    DEVICE TileSums finish(const u8*) const { return {sums[0], sums[2]}; }
};

template <>
struct Pieces<8> {
    TileSums total;

    DEVICE static void word(float (&sums)[4], u32 low, u32 high, u32 x0, u32 x1) {
        const u32 a = low ^ 0x80808080u, b = high ^ 0x80808080u;  // code + 128
        multiply_add(sums, pick_bytes(a, 0x64646464u, 0x4140), pick_bytes(b, 0x64646464u, 0x4140),
                     pick_bytes(a, 0x64646464u, 0x4342), pick_bytes(b, 0x64646464u, 0x4342), x0, x1);
    }
    DEVICE void add(const u8* stage, int piece, const Inputs<8>& x, const float* correction) {
        const Weights w(stage, piece);
        float even[4] = {0, 0, 0, 0}, odd[4] = {0, 0, 0, 0};
        word(even, w.low.x, w.high.x, x.part[0].x, x.part[0].y);
        word(odd, w.low.y, w.high.y, x.part[0].z, x.part[0].w);
        word(even, w.low.z, w.high.z, x.part[1].x, x.part[1].y);
        word(odd, w.low.w, w.high.w, x.part[1].z, x.part[1].w);
        total.low += even[0] + odd[0] - *correction;
        total.high += even[2] + odd[2] - *correction;
    }
    DEVICE TileSums finish(const u8* stage) const {
        const u16* scales = reinterpret_cast<const u16*>(stage + SCALES_AT);
        const int g = thread_number() % 32 / 4;
        return {total.low * wide(scales[g]), total.high * wide(scales[g + 8])};
    }
};

template <>
struct Pieces<4> {
    TileSums total;

    DEVICE static void quarter(float (&sums)[4], const uint4& low, const uint4& high, u32 mask, const uint4& x) {
        multiply_add(sums, pair_of_halves(low.x, mask), pair_of_halves(high.x, mask), pair_of_halves(low.y, mask),
                     pair_of_halves(high.y, mask), x.x, x.y);
        multiply_add(sums, pair_of_halves(low.z, mask), pair_of_halves(high.z, mask), pair_of_halves(low.w, mask),
                     pair_of_halves(high.w, mask), x.z, x.w);
    }
    DEVICE static uint4 shifted(const uint4& words) {
        return {words.x >> 8, words.y >> 8, words.z >> 8, words.w >> 8};
    }
    DEVICE void add(const u8* stage, int piece, const Inputs<4>& x, const float* correction) {
        const Weights w(stage, piece);
        const uint4 low_bytes = shifted(w.low), high_bytes = shifted(w.high);
        float units[4] = {0, 0, 0, 0}, sixteens[4] = {0, 0, 0, 0};
        quarter(units, w.low, w.high, 0x000f000fu, x.part[0]);
        quarter(sixteens, w.low, w.high, 0x00f000f0u, x.part[1]);
        quarter(units, low_bytes, high_bytes, 0x000f000fu, x.part[2]);
        quarter(sixteens, low_bytes, high_bytes, 0x00f000f0u, x.part[3]);
        const u16* scales = reinterpret_cast<const u16*>(stage + SCALES_AT) + piece;
        const int g = thread_number() % 32 / 4;
        total.low += wide(scales[g * (SCALES_PITCH / 2)]) * (units[0] + sixteens[0] * 0.0625f - *correction);
        total.high += wide(scales[(g + 8) * (SCALES_PITCH / 2)]) * (units[2] + sixteens[2] * 0.0625f - *correction);
    }
    DEVICE TileSums finish(const u8*) const { return total; }
};

template <int BITS>
DEVICE void add_piece(const Shared* shared, Pieces<BITS>& pieces, const u8* stage, int before, int piece) {
    constexpr int EACH = PIECE * 8 / BITS;  // inputs of a piece
    const u16* inputs = reinterpret_cast<const u16*>(shared->inputs);
    pieces.add(stage, piece, Inputs<BITS>(inputs + (before + piece) * EACH), shared->corrections + before + piece);
}

// A warp's share of the next stage: every WARPS-th of the COUNT pieces of each row. The first is the row's piece `before`.
// One after the other: with inputs kept in registers and the reads of several pieces overlapping it was no faster.
template <int BITS, int COUNT>
DEVICE TileSums add_stage(Ring& ring, Pieces<BITS>& pieces, int before) {
    const int warp = thread_number() / 32;
    ring.wait_until_full();
#pragma unroll 1
    for (int i = 0; i < COUNT / WARPS; i++) add_piece(ring.shared, pieces, ring.data(), before, warp + i * WARPS);
    if (warp < COUNT % WARPS) add_piece(ring.shared, pieces, ring.data(), before, warp + COUNT / WARPS * WARPS);
    const TileSums found = pieces.finish(ring.data());
    ring.release();
    return found;
}

// Bytes FROM to TO of each row of a tile; what the bytes before FROM gave lies in `sums`, put there by the same lanes.
template <int FROM, int TO, int BITS>
DEVICE void multiply_tile(Ring& ring, float (*sums)[TILE]) {
    constexpr int REST = (TO - FROM) % SLICE;
    Pieces<BITS> pieces;
    TileSums found;  // of the last stage it counts
    for (int at = FROM; at < TO - REST; at += SLICE) found = add_stage<BITS, SLICE / PIECE>(ring, pieces, at / PIECE);
    if constexpr (REST > 0) found = add_stage<BITS, REST / PIECE>(ring, pieces, (TO - REST) / PIECE);
    const int warp = thread_number() / 32, lane = thread_number() % 32;
    if (lane % 4 == 0) {
        float &low = sums[warp][lane / 4], &high = sums[warp][lane / 4 + 8];
        low = FROM > 0 ? low + found.low : found.low;
        high = FROM > 0 ? high + found.high : found.high;
    }
}

DEVICE float over_warps(const float (*sums)[TILE], int row) {
    float total = 0;
    for (int warp = 0; warp < WARPS; warp++) total += sums[warp][row];
    return total;
}

// Two rows in order, so that their halves fill a word of the mail.
struct Two {
    float first, second;
};

DEVICE Two two_rows(const float (*sums)[TILE], int row) { return {over_warps(sums, row), over_warps(sums, row + 1)}; }

// The first EARLY_BYTES of each row, of all this block's tiles: `multiply` then adds the rest.
template <int BITS, int ROWS, int EARLY_BYTES>
DEVICE void begin_to_multiply(Ring& ring, const Turns& turns) {
    int count = 0;
    for (int tile = turns.first(); tile < ROWS / TILE; tile += BLOCKS)
        multiply_tile<0, EARLY_BYTES, BITS>(ring, ring.shared->sums[count++]);
}

// The warps take turns in adding up, each while the others go on.
DEVICE int thread_in_turn(int group) { return (thread_number() + group * (CONSUMERS - 32)) % CONSUMERS; }

// `finish(row, sums, others)` gets rows `row` and `row + 1`, each once; `others`, with PAIRED, are those of `up`.
template <int BITS, int ROWS, int COLUMNS, bool PAIRED, int EARLY_BYTES = 0, class Finish>
DEVICE void multiply(Ring& ring, Turns& turns, Finish&& finish) {
    Shared* shared = ring.shared;
    constexpr int OUTPUTS = PAIRED ? TILE / 2 : TILE, TWOS = OUTPUTS / 2, ROW = COLUMNS / 8 * BITS;
    constexpr int TILES = EARLY_BYTES > 0 ? SUM_TILES : PAIRED ? GATED_TILES : GROUP_TILES;
    int tile = turns.first();
    // One meeting a group: the next sums lie elsewhere, and those after them come behind the next meeting.
    for (int group = 0; tile < ROWS / TILE; group++) {
        float(*sums)[WARPS][TILE] = shared->sums + group * TILES % SUM_TILES;
        const int first = tile;
        int count = 0;
        for (; tile < ROWS / TILE && count < TILES; tile += BLOCKS)
            multiply_tile<EARLY_BYTES, ROW, BITS>(ring, sums[count++]);
        consumers_sync();
        for (int i = thread_in_turn(group); i < count * TWOS; i += CONSUMERS) {
            const int at = i / TWOS, row = 2 * (i % TWOS);
            const Two others = PAIRED ? two_rows(sums[at], row + TILE / 2) : Two{0, 0};
            finish((first + at * BLOCKS) * OUTPUTS + row, two_rows(sums[at], row), others);
        }
    }
    turns.pass(ROWS / TILE);
}
