// Tiles of a matrix times one vector, on the tensor cores, which here only save instructions.
//
// The physics: at full bandwidth 46 four-bit weights reach a multiprocessor each nanosecond, 27 a cycle. Turning eight of
// them into halves takes five integer instructions (64 lanes a cycle do those: 100 weights a cycle); multiplying them
// one by one would double that, an mma takes 256 at once and adds in 32 bit. Its eight columns all hold the same vector.
//
// Codes become halves by their bits: 1024 + code is the half 0x6400 | code, 1024 + 16 code is 0x6400 | code << 4. What the
// 1024 (and the zero point) add is known: the sum of the inputs, a `correction` of each piece, made when they were staged.

DEVICE u32 pair_of_halves(u32 word, u32 mask) { return (word & mask) | 0x64006400u; }

// A warp's sums of a tile: lane 4 g + t holds those of row g and row g + 8, each of the four t the same.
struct TileSums {
    float low = 0, high = 0;
};

template <int BITS>
struct Pieces;

template <>
struct Pieces<16> {
    float sums[4] = {0, 0, 0, 0};

    DEVICE void add(const u8* stage, int piece, const u16* inputs, const float*) {
        const int g = thread_number() % 32 / 4, t = thread_number() % 4;
        const uint4 low = *reinterpret_cast<const uint4*>(stage + g * PITCH + piece * PIECE + 16 * t);
        const uint4 high = *reinterpret_cast<const uint4*>(stage + (g + 8) * PITCH + piece * PIECE + 16 * t);
        const uint4 x = *reinterpret_cast<const uint4*>(inputs + 8 * t);
        multiply_add(sums, low.x, high.x, low.y, high.y, x.x, x.y);
        multiply_add(sums, low.z, high.z, low.w, high.w, x.z, x.w);
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
    DEVICE void add(const u8* stage, int piece, const u16* inputs, const float* correction) {
        const int g = thread_number() % 32 / 4, t = thread_number() % 4;
        const uint4 low = *reinterpret_cast<const uint4*>(stage + g * PITCH + piece * PIECE + 16 * t);
        const uint4 high = *reinterpret_cast<const uint4*>(stage + (g + 8) * PITCH + piece * PIECE + 16 * t);
        const uint4 x = *reinterpret_cast<const uint4*>(inputs + 16 * t);
        const uint4 y = *reinterpret_cast<const uint4*>(inputs + 16 * t + 8);
        float even[4] = {0, 0, 0, 0}, odd[4] = {0, 0, 0, 0};
        word(even, low.x, high.x, x.x, x.y);
        word(odd, low.y, high.y, x.z, x.w);
        word(even, low.z, high.z, y.x, y.y);
        word(odd, low.w, high.w, y.z, y.w);
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

    DEVICE static void quarter(float (&sums)[4], const uint4& low, const uint4& high, u32 mask, const u16* inputs) {
        const uint4 x = *reinterpret_cast<const uint4*>(inputs);
        multiply_add(sums, pair_of_halves(low.x, mask), pair_of_halves(high.x, mask), pair_of_halves(low.y, mask),
                     pair_of_halves(high.y, mask), x.x, x.y);
        multiply_add(sums, pair_of_halves(low.z, mask), pair_of_halves(high.z, mask), pair_of_halves(low.w, mask),
                     pair_of_halves(high.w, mask), x.z, x.w);
    }
    DEVICE static uint4 shifted(const uint4& words) {
        return {words.x >> 8, words.y >> 8, words.z >> 8, words.w >> 8};
    }
    DEVICE void add(const u8* stage, int piece, const u16* inputs, const float* correction) {
        const int g = thread_number() % 32 / 4, t = thread_number() % 4;
        const uint4 low = *reinterpret_cast<const uint4*>(stage + g * PITCH + piece * PIECE + 16 * t);
        const uint4 high = *reinterpret_cast<const uint4*>(stage + (g + 8) * PITCH + piece * PIECE + 16 * t);
        const uint4 low_bytes = shifted(low), high_bytes = shifted(high);
        const u16* x = inputs + 8 * t;
        float units[4] = {0, 0, 0, 0}, sixteens[4] = {0, 0, 0, 0};
        quarter(units, low, high, 0x000f000fu, x);
        quarter(sixteens, low, high, 0x00f000f0u, x + 32);
        quarter(units, low_bytes, high_bytes, 0x000f000fu, x + 64);
        quarter(sixteens, low_bytes, high_bytes, 0x00f000f0u, x + 96);
        const u16* scales = reinterpret_cast<const u16*>(stage + SCALES_AT) + piece;
        total.low += wide(scales[g * (SCALES_PITCH / 2)]) * (units[0] + sixteens[0] * 0.0625f - *correction);
        total.high += wide(scales[(g + 8) * (SCALES_PITCH / 2)]) * (units[2] + sixteens[2] * 0.0625f - *correction);
    }
    DEVICE TileSums finish(const u8*) const { return total; }
};

template <int BITS, int COLUMNS>
DEVICE void multiply_tile(Ring& ring, float (*sums)[TILE]) {
    constexpr int ROW = COLUMNS / 8 * BITS, INPUTS = PIECE * 8 / BITS;  // of a piece
    const int warp = thread_number() / 32, lane = thread_number() % 32;
    const u16* inputs = reinterpret_cast<const u16*>(ring.shared->inputs);
    Pieces<BITS> pieces;
    TileSums found;
    for (int at = 0; at < ROW; at += SLICE) {
        const int count = least(SLICE, ROW - at) / PIECE, before = at / PIECE;
        ring.wait_until_full();
        for (int piece = warp; piece < count; piece += WARPS)
            pieces.add(ring.data(), piece, inputs + (before + piece) * INPUTS, ring.shared->corrections + before + piece);
        if (at + SLICE >= ROW) found = pieces.finish(ring.data());
        ring.release();
    }
    if (lane % 4 == 0) {
        sums[warp][lane / 4] = found.low;
        sums[warp][lane / 4 + 8] = found.high;
    }
}

DEVICE float over_warps(const float (*sums)[TILE], int row) {
    float total = 0;
    for (int warp = 0; warp < WARPS; warp++) total += sums[warp][row];
    return total;
}

// Two rows in order, so that they fill a packet.
struct Two {
    float first, second;
};

DEVICE Two two_rows(const float (*sums)[TILE], int row) { return {over_warps(sums, row), over_warps(sums, row + 1)}; }

// `finish(row, sums, others)` gets rows `row` and `row + 1`, each once; `others`, with PAIRED, are those of `up`.
template <int BITS, int ROWS, int COLUMNS, bool PAIRED, class Finish>
DEVICE void multiply(Ring& ring, Turns& turns, Finish&& finish) {
    Shared* shared = ring.shared;
    constexpr int OUTPUTS = PAIRED ? TILE / 2 : TILE, TWOS = OUTPUTS / 2;
    int tile = turns.first();
    while (tile < ROWS / TILE) {
        const int first = tile;
        int count = 0;
        for (; tile < ROWS / TILE && count < SUM_TILES; tile += BLOCKS) multiply_tile<BITS, COLUMNS>(ring, shared->sums[count++]);
        consumers_sync();
        for (int i = thread_number(); i < count * TWOS; i += CONSUMERS) {
            const int at = i / TWOS, row = 2 * (i % TWOS);
            const Two others = PAIRED ? two_rows(shared->sums[at], row + TILE / 2) : Two{0, 0};
            finish((first + at * BLOCKS) * OUTPUTS + row, two_rows(shared->sums[at], row), others);
        }
        consumers_sync();
    }
    turns.pass(ROWS / TILE);
}
