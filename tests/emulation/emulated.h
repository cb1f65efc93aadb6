// The functions of `device.cuh` on a CPU: every thread of the kernel is a fiber, all on one system thread.
//
// Why: the step's arithmetic, its waiting and its indexing can be tested where there is no GPU. Copies arrive late and out
// of order, as on the device, so that a missing wait shows. Time means nothing here.

#include <setjmp.h>
#include <ucontext.h>

#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <vector>

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
struct alignas(16) uint4 {
    u32 x, y, z, w;
};

#define DEVICE inline
#define CONSTANT constexpr
#define KERNEL extern "C" void

struct Barrier {
    int phase, pending, count, bytes;
};

namespace emulation {

struct Meeting {  // of a number of threads, again and again
    int present = 0, times = 0;
};
struct Warp {
    Meeting meeting;
    u32 slots[32][6];
};
struct Block {
    Meeting everyone, consumers;
    std::vector<Warp> warps;
    std::vector<u8> memory;
};
struct Thread {
    ucontext_t context;  // for the start; from then on jumps, which need no system call
    jmp_buf place;
    bool started = false;
    std::vector<u8> stack;
    int number, block;
    bool done = false;
};
struct Copy {
    void* to;
    const void* from;
    u32 bytes;
    Barrier* barrier;
};

static std::vector<Thread> threads;
static std::vector<Block> blocks;
static std::vector<Copy> copies;
static Thread* current;
static ucontext_t scheduler;
static jmp_buf scheduler_place;
static u64 fetched;  // so that what nobody owns is found by touching it
static u64 dice = 88172645463325252ull;
static std::function<void()> kernel;

inline u64 roll() {
    dice ^= dice << 13, dice ^= dice >> 7, dice ^= dice << 17;
    return dice;
}
inline Block& block() { return blocks[current->block]; }
inline Warp& warp() { return block().warps[current->number / 32]; }
inline void settle(Barrier* barrier) {
    if (barrier->pending == 0 && barrier->bytes == 0) barrier->phase ^= 1, barrier->pending = barrier->count;
}
inline void deliver_a_copy() {
    if (copies.empty()) return;
    const size_t at = roll() % copies.size();
    const Copy copy = copies[at];
    copies[at] = copies.back();
    copies.pop_back();
    std::memcpy(copy.to, copy.from, copy.bytes);
    copy.barrier->bytes -= static_cast<int>(copy.bytes);
    settle(copy.barrier);
}
inline void pause() {
    if (!_setjmp(current->place)) _longjmp(scheduler_place, 1);
}
inline void resume() {
    if (_setjmp(scheduler_place)) return;
    if (current->started) _longjmp(current->place, 1);
    current->started = true;
    swapcontext(&scheduler, &current->context);
}
inline void meet(Meeting& meeting, int threads) {
    const int before = meeting.times;
    if (++meeting.present == threads) {
        meeting.present = 0, meeting.times++;
        return;
    }
    while (meeting.times == before) pause();
}
// Threads leave a meeting at different times, so that what one still reads is overwritten by another where they should meet
// again and do not.
inline void linger() {
    while (roll() % 4 == 0) pause();
    if (roll() % 64 == 0)
        for (int turn = 0; turn < 200; turn++) pause();
}
inline void start() {
    kernel();
    current->done = true;
    pause();
}

// 0, or 1 when nobody can go on.
inline int run(int block_count, int thread_count, int shared_bytes, std::function<void()> work) {
    kernel = std::move(work);
    threads = std::vector<Thread>(static_cast<size_t>(block_count) * thread_count);
    blocks = std::vector<Block>(block_count);
    copies.clear();
    for (Block& each : blocks) each.warps.resize(thread_count / 32), each.memory.assign(shared_bytes + 128, 0xff);
    for (size_t i = 0; i < threads.size(); i++) {
        Thread& thread = threads[i];
        thread.number = static_cast<int>(i) % thread_count, thread.block = static_cast<int>(i) / thread_count;
        thread.stack.resize(64 * 1024);
        getcontext(&thread.context);
        thread.context.uc_stack = {thread.stack.data(), 0, thread.stack.size()};
        thread.context.uc_link = &scheduler;
        makecontext(&thread.context, start, 0);
    }
    for (long turn = 0; turn < 100000; turn++) {
        bool all_done = true;
        for (Thread& thread : threads) {
            if (thread.done) continue;
            all_done = false;
            current = &thread;
            resume();
        }
        if (all_done) return 0;
        for (size_t due = copies.size() / 4 + 1; due > 0; due--) deliver_a_copy();
    }
    return 1;
}

}  // namespace emulation

DEVICE int thread_number() { return emulation::current->number; }
DEVICE int block_number() { return emulation::current->block; }
DEVICE u8* shared_memory() {
    u8* start = emulation::block().memory.data();
    return start + (128 - reinterpret_cast<uintptr_t>(start) % 128) % 128;
}

DEVICE void block_sync() { emulation::meet(emulation::block().everyone, WARPS * 32 + (AHEAD_KIB > 0 ? 64 : 32)); }
DEVICE void consumers_sync() {
    emulation::meet(emulation::block().consumers, WARPS * 32);
    emulation::linger();
}
DEVICE void warp_sync() { emulation::meet(emulation::warp().meeting, 32); }

template <class T>
DEVICE T shuffle_xor(T value, int lanes) {
    emulation::Warp& warp = emulation::warp();
    const int lane = thread_number() % 32;
    std::memcpy(&warp.slots[lane][0], &value, 4);
    warp_sync();
    T other;
    std::memcpy(&other, &warp.slots[lane ^ lanes][0], 4);
    warp_sync();
    return other;
}

DEVICE void barrier_init(Barrier* barrier, u32 arrivals) {
    *barrier = {0, static_cast<int>(arrivals), static_cast<int>(arrivals), 0};
}
DEVICE void barriers_are_made() {}
DEVICE void barrier_arrive(Barrier* barrier) {
    barrier->pending--;
    emulation::settle(barrier);
}
DEVICE void barrier_expect(Barrier* barrier, u32 bytes) {
    barrier->bytes += static_cast<int>(bytes);
    barrier_arrive(barrier);
}
DEVICE void barrier_wait(Barrier* barrier, u32 phase) {
    while (static_cast<u32>(barrier->phase) == phase) emulation::pause();
}
DEVICE void copy_bulk(void* shared, const void* global, u32 bytes, Barrier* barrier) {
    if (reinterpret_cast<uintptr_t>(shared) % 16 || reinterpret_cast<uintptr_t>(global) % 16 || bytes % 16) std::abort();
    emulation::copies.push_back({shared, global, bytes, barrier});
}
DEVICE void fetch_ahead(const void* global, u32 bytes) {
    if (reinterpret_cast<uintptr_t>(global) % 16 || bytes % 16) std::abort();
    emulation::fetched += *static_cast<const volatile u8*>(global) + static_cast<const volatile u8*>(global)[bytes - 1];
}
DEVICE void rest() { emulation::pause(); }

template <class T>
DEVICE T load_fresh(const T* from) {
    return *from;
}
DEVICE void publish() {}
DEVICE u32 count_up(u32* counter) { return (*counter)++; }
constexpr u32 EMPTY = 0xffffffffu;
DEVICE void send(u32* to, u32 word) { *to = word; }
template <int WORDS>
DEVICE bool receive(const u32* from, u32 (&words)[WORDS]) {
    if (reinterpret_cast<uintptr_t>(from) % (4 * WORDS)) std::abort();
    bool all = true;
    for (int i = 0; i < WORDS; i++) words[i] = from[i], all = all && words[i] != EMPTY;
    return all;
}
DEVICE void store(uint4* to, const uint4& words) { *to = words; }
DEVICE u64 cycles() { return 0; }
DEVICE void wait_a_little() { emulation::pause(); }

DEVICE u32 and_or(u32 word, u32 mask, u32 bits) { return (word & mask) | bits; }
DEVICE u32 pick_bytes(u32 a, u32 b, u32 selector) {
    const u64 bytes = static_cast<u64>(b) << 32 | a;
    u32 picked = 0;
    for (int i = 0; i < 4; i++) picked |= static_cast<u32>(bytes >> 8 * (selector >> 4 * i & 7) & 255) << 8 * i;
    return picked;
}
DEVICE float exp2_fast(float x) { return std::exp2(x); }
DEVICE float exp_fast(float x) { return std::exp(x); }
DEVICE float inverse_root(float x) { return 1.0f / std::sqrt(x); }

DEVICE u32 bits_of(float value) {
    u32 bits;
    std::memcpy(&bits, &value, 4);
    return bits;
}
DEVICE float of_bits(u32 bits) {
    float value;
    std::memcpy(&value, &bits, 4);
    return value;
}
#if HALF_IS_BF16
DEVICE float wide(u16 half) { return of_bits(static_cast<u32>(half) << 16); }
DEVICE u16 narrow(float value) {
    const u32 bits = bits_of(value);
    return static_cast<u16>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}
#else
DEVICE float wide(u16 half) {
    const int exponent = half >> 10 & 31, fraction = half & 1023;
    const float size = exponent == 31  ? (fraction ? NAN : INFINITY)
                       : exponent == 0 ? std::ldexp(static_cast<float>(fraction), -24)
                                       : std::ldexp(static_cast<float>(1024 + fraction), exponent - 25);
    return half & 0x8000 ? -size : size;
}
DEVICE u16 narrow(float value) {
    const u16 sign = bits_of(value) >> 16 & 0x8000;
    const float size = std::fabs(value);
    if (std::isnan(value)) return 0x7e00;
    if (size >= 65520.0f) return sign | 0x7c00;
    int exponent = 0;
    std::frexp(size, &exponent);
    exponent = exponent < -13 ? -13 : exponent;
    const u32 fraction = static_cast<u32>(std::nearbyint(std::ldexp(size, 11 - exponent)));
    return static_cast<u16>(sign + (fraction < 1024 ? fraction : fraction - 1024 + (static_cast<u32>(exponent + 14) << 10)));
}
#endif

DEVICE void multiply_add(float (&sums)[4], u32 a0, u32 a1, u32 a2, u32 a3, u32 b0, u32 b1) {
    emulation::Warp& warp = emulation::warp();
    const int lane = thread_number() % 32, g = lane / 4, t = lane % 4;
    const u32 own[6] = {a0, a1, a2, a3, b0, b1};
    std::memcpy(warp.slots[lane], own, sizeof own);
    warp_sync();
    auto half = [](u32 pair, int i) { return wide(static_cast<u16>(pair >> 16 * i)); };
    for (int i = 0; i < 4; i++) {
        const int high = i / 2, column = 2 * t + i % 2;
        for (int from = 0; from < 4; from++)
            for (int k = 0; k < 4; k++)
                sums[i] += half(warp.slots[4 * g + from][k / 2 * 2 + high], k % 2) *
                           half(warp.slots[4 * column + from][4 + k / 2], k % 2);
    }
    warp_sync();
}
