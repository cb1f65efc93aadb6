// The vectors between the products: brought into shared memory by every block, normed on the way, with the corrections
// that the quantized products need.

template <int BITS>
DEVICE float correction_of(int chunk, float sum) {
    // See `products.cuh`: 8 bit adds 1024 + 128 an input; 4 bit 1024 + 8, or (1024 + 16 * 8) / 16, by the input's quarter.
    if (BITS == 8) return 1152.0f * sum;
    return (chunk / 4 % 2 == 0 ? 1032.0f : 72.0f) * sum;
}

// Eight inputs of a product. Called by whole warps; `is_there` is false beyond the end of the vector.
template <int BITS>
DEVICE void stage_eight(Shared* shared, int chunk, bool is_there, const u16 (&halves)[8]) {
    uint4 packed;
    u32 pairs[4];
    float sum = 0;
    for (int i = 0; i < 4; i++) pairs[i] = halves[2 * i] | static_cast<u32>(halves[2 * i + 1]) << 16;
    packed = {pairs[0], pairs[1], pairs[2], pairs[3]};
    if (is_there) reinterpret_cast<uint4*>(shared->inputs)[chunk] = packed;
    if (BITS == 16) return;
    for (int i = 0; i < 8; i++) sum += wide(halves[i]);
    float correction = is_there ? correction_of<BITS>(chunk, sum) : 0.0f;
    constexpr int CHUNKS = PIECE / BITS;  // of a piece
    for (int lanes = 1; lanes < CHUNKS; lanes *= 2) correction += shuffle_xor(correction, lanes);
    if (is_there && chunk % CHUNKS == 0) shared->corrections[chunk / CHUNKS] = correction;
}

DEVICE void unpack(const uint4& packed, u16 (&halves)[8]) {
    const u32 pairs[4] = {packed.x, packed.y, packed.z, packed.w};
    for (int i = 0; i < 4; i++) {
        halves[2 * i] = static_cast<u16>(pairs[i]);
        halves[2 * i + 1] = static_cast<u16>(pairs[i] >> 16);
    }
}

template <int BITS, int SIZE>
DEVICE void stage_vector(Shared* shared, const u16* from) {
    for (int round = 0; round < rounds(SIZE / 8, CONSUMERS); round++) {
        const int chunk = round * CONSUMERS + thread_number();
        const bool is_there = chunk < SIZE / 8;
        u16 halves[8] = {0, 0, 0, 0, 0, 0, 0, 0};
        if (is_there) unpack(load_fresh(reinterpret_cast<const uint4*>(from) + chunk), halves);
        stage_eight<BITS>(shared, chunk, is_there, halves);
    }
    consumers_sync();
}

DEVICE float sum_over_consumers(Shared* shared, float value) {
    for (int lanes = 1; lanes < 32; lanes *= 2) value += shuffle_xor(value, lanes);
    if (thread_number() % 32 == 0) shared->by_warp[thread_number() / 32] = value;
    consumers_sync();
    float total = 0;
    for (int warp = 0; warp < WARPS; warp++) total += shared->by_warp[warp];
    return total;
}

// RMSNorm, rounded where transformers rounds: the unit vector, then its product with the weight. The weight is asked for
// by `load_gains` before the blocks wait for each other: it comes from memory, the vector from the cache.
struct Gains {
    static constexpr int CHUNKS = rounds(HIDDEN / 8, CONSUMERS);
    uint4 chunk[CHUNKS];

    DEVICE explicit Gains(const u16* weight) {
        for (int i = 0; i < CHUNKS; i++) {
            const int at = i * CONSUMERS + thread_number();
            if (at < HIDDEN / 8) chunk[i] = reinterpret_cast<const uint4*>(weight)[at];
        }
    }
};

template <int BITS>
DEVICE void stage_normed(Shared* shared, const u16* from, const Gains& gains) {
    u16 halves[Gains::CHUNKS][8] = {};
    float squares = 0;
    for (int i = 0; i < Gains::CHUNKS; i++) {
        const int at = i * CONSUMERS + thread_number();
        if (at >= HIDDEN / 8) continue;
        unpack(load_fresh(reinterpret_cast<const uint4*>(from) + at), halves[i]);
        for (int j = 0; j < 8; j++) squares += wide(halves[i][j]) * wide(halves[i][j]);
    }
    const float factor = inverse_root(sum_over_consumers(shared, squares) / HIDDEN + EPS);
    for (int i = 0; i < Gains::CHUNKS; i++) {
        const int at = i * CONSUMERS + thread_number();
        u16 gain[8] = {}, normed[8];
        if (at < HIDDEN / 8) unpack(gains.chunk[i], gain);
        for (int j = 0; j < 8; j++) normed[j] = narrow(wide(narrow(wide(halves[i][j]) * factor)) * wide(gain[j]));
        stage_eight<BITS>(shared, at, at < HIDDEN / 8, normed);
    }
    consumers_sync();
}

// silu(gate) * up, rounded after each operation as transformers does.
DEVICE u16 gated(float gate, float up) {
    const float g = wide(narrow(gate)), u = wide(narrow(up));
    return narrow(wide(narrow(g / (1.0f + exp_fast(-g)))) * u);
}

DEVICE u16 added(float value, u16 residual) { return narrow(wide(narrow(value)) + wide(residual)); }
