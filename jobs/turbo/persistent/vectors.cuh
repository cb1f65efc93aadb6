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

// Eight halves of a vector.
struct Eight {
    u32 pairs[4];

    DEVICE void unpack(u16 (&halves)[8]) const {
        for (int i = 0; i < 4; i++) {
            halves[2 * i] = static_cast<u16>(pairs[i]);
            halves[2 * i + 1] = static_cast<u16>(pairs[i] >> 16);
        }
    }
};

// A thread's part of SIZE halves of a vector, from half FROM on.
template <int SIZE, int FROM = 0>
struct Part {
    static constexpr int CHUNKS = rounds(SIZE / 8, CONSUMERS);
    Eight chunk[CHUNKS];

    DEVICE static int number(int i) { return FROM / 8 + i * CONSUMERS + thread_number(); }
    DEVICE static bool is_there(int i) { return number(i) < (FROM + SIZE) / 8; }

    DEVICE void read(const void* from) {
#pragma unroll
        for (int i = 0; i < CHUNKS; i++) {
            if (!is_there(i)) continue;
            const uint4 packed = static_cast<const uint4*>(from)[number(i)];
            chunk[i] = {{packed.x, packed.y, packed.z, packed.w}};
        }
    }
    // From other blocks. One chunk is waited for before the others are asked for, all at once: the senders end together,
    // and asking in vain for everything would take the bandwidth that the weights need. Of whole rounds it is the last one,
    // which is sent last; two chunks are few enough to ask for both.
    DEVICE void receive_from(const u32* mail) {
        constexpr bool AT_ONCE = CHUNKS <= 2;
        constexpr int FIRST = SIZE / 8 % CONSUMERS == 0 ? CHUNKS - 1 : 0;
        if (!AT_ONCE && is_there(FIRST))
            while (!receive(mail + 4 * number(FIRST), chunk[FIRST].pairs)) wait_a_little();
        bool all = false;
        while (!all) {
            all = true;
#pragma unroll
            for (int i = 0; i < CHUNKS; i++)
                if ((AT_ONCE || i != FIRST) && is_there(i)) all = receive(mail + 4 * number(i), chunk[i].pairs) && all;
            if (!all) wait_a_little();
        }
    }
};

template <int BITS, int SIZE, int FROM = 0>
DEVICE void stage_received(Shared* shared, const u32* mail) {
    Part<SIZE, FROM> received;
    received.receive_from(mail);
#pragma unroll
    for (int i = 0; i < received.CHUNKS; i++) {
        u16 halves[8] = {0, 0, 0, 0, 0, 0, 0, 0};
        if (received.is_there(i)) received.chunk[i].unpack(halves);
        stage_eight<BITS>(shared, received.number(i), received.is_there(i), halves);
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

// RMSNorm, rounded where transformers rounds: the unit vector, then its product with the weight. The weights are read
// before the vector is waited for: they come from memory.
template <int BITS>
DEVICE void stage_normed(Shared* shared, const Part<HIDDEN>& vector, const Part<HIDDEN>& gains) {
    constexpr int CHUNKS = Part<HIDDEN>::CHUNKS;
    float squares = 0;
#pragma unroll
    for (int i = 0; i < CHUNKS; i++) {
        u16 halves[8];
        if (!vector.is_there(i)) continue;
        vector.chunk[i].unpack(halves);
        for (int j = 0; j < 8; j++) squares += wide(halves[j]) * wide(halves[j]);
    }
    const float factor = inverse_root(sum_over_consumers(shared, squares) / HIDDEN + EPS);
#pragma unroll
    for (int i = 0; i < CHUNKS; i++) {
        u16 halves[8] = {}, gain[8] = {}, normed[8];
        if (vector.is_there(i)) vector.chunk[i].unpack(halves), gains.chunk[i].unpack(gain);
        for (int j = 0; j < 8; j++) normed[j] = narrow(wide(narrow(wide(halves[j]) * factor)) * wide(gain[j]));
        stage_eight<BITS>(shared, vector.number(i), vector.is_there(i), normed);
    }
    consumers_sync();
}

// silu(gate) * up, rounded after each operation as transformers does.
DEVICE u16 gated(float gate, float up) {
    const float g = wide(narrow(gate)), u = wide(narrow(up));
    return narrow(wide(narrow(g / (1.0f + exp_fast(-g)))) * u);
}

DEVICE u16 added(float value, u16 residual) { return narrow(wide(narrow(value)) + wide(residual)); }

DEVICE u32 pair_of(u16 first, u16 second) { return first | static_cast<u32>(second) << 16; }
