// What the step needs of a GPU (sm_90), one small function each; `emulated.h` holds the same functions for a CPU.
//
// Memory flows through the bulk copy engine (cp.async.bulk) into shared memory and announces itself at an mbarrier, so
// nobody spends registers or instructions on waiting for it. Blocks send each other words.

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef u64 Barrier;

#define DEVICE __device__ __forceinline__
#define CONSTANT __host__ __device__ constexpr
#define KERNEL extern "C" __global__ void __launch_bounds__(THREADS, 1)

DEVICE int thread_number() { return threadIdx.x; }
DEVICE int block_number() { return blockIdx.x; }

DEVICE u8* shared_memory() {
    extern __shared__ __align__(128) u8 memory[];
    return memory;
}

DEVICE u32 shared_address(const void* pointer) { return static_cast<u32>(__cvta_generic_to_shared(pointer)); }

// --- threads of a block

DEVICE void block_sync() { asm volatile("bar.sync 0;" ::: "memory"); }
DEVICE void consumers_sync() { asm volatile("bar.sync 1, %0;" ::"n"(WARPS * 32) : "memory"); }
DEVICE void warp_sync() { __syncwarp(); }
DEVICE float shuffle_xor(float value, int lanes) { return __shfl_xor_sync(0xffffffffu, value, lanes); }
DEVICE int shuffle_xor(int value, int lanes) { return __shfl_xor_sync(0xffffffffu, value, lanes); }

// --- arrivals of bytes and of threads

DEVICE void barrier_init(Barrier* barrier, u32 arrivals) {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(barrier)), "r"(arrivals) : "memory");
}
DEVICE void barriers_are_made() { asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory"); }

DEVICE void barrier_arrive(Barrier* barrier) {
    asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(shared_address(barrier)) : "memory");
}

DEVICE void barrier_expect(Barrier* barrier, u32 bytes) {
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(barrier)), "r"(bytes)
                 : "memory");
}

DEVICE void barrier_wait(Barrier* barrier, u32 phase) {
    u32 done = 0;
    while (!done)
        asm volatile("{\n.reg .pred done;\n"
                     "mbarrier.try_wait.parity.shared::cta.b64 done, [%1], %2;\n"
                     "selp.u32 %0, 1, 0, done;\n}"
                     : "=r"(done)
                     : "r"(shared_address(barrier)), "r"(phase)
                     : "memory");
}

// Both addresses and the size are multiples of 16 bytes. What comes is used once: in the second-level cache it makes room
// first, so that what blocks send each other stays.
DEVICE void copy_bulk(void* shared, const void* global, u32 bytes, Barrier* barrier) {
    u64 policy;
    asm volatile("createpolicy.fractional.L2::evict_first.b64 %0, 1.0;" : "=l"(policy));
    asm volatile(
        "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.L2::cache_hint [%0], [%1], %2, [%3], %4;" ::"r"(
            shared_address(shared)),
        "l"(global), "r"(bytes), "r"(shared_address(barrier)), "l"(policy)
        : "memory");
}

// Into the second-level cache alone. A hint: nobody waits for it.
DEVICE void fetch_ahead(const void* global, u32 bytes) {
    asm volatile("cp.async.bulk.prefetch.L2.global [%0], %1;" ::"l"(global), "r"(bytes) : "memory");
}
DEVICE void rest() { __nanosleep(200); }

// --- messages between blocks: words of 32 bits, written and read whole. A word that is EMPTY has not been written yet:
// no result has these bits (a NaN that arithmetic makes has others), so nobody waits for a fence or a counter.

constexpr u32 EMPTY = 0xffffffffu;

DEVICE void send(u32* to, u32 word) { asm volatile("st.volatile.global.u32 [%0], %1;" ::"l"(to), "r"(word) : "memory"); }
DEVICE bool receive(const u32* from, u32 (&words)[4]) {
    asm volatile("ld.volatile.global.v4.u32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(words[0]), "=r"(words[1]), "=r"(words[2]), "=r"(words[3])
                 : "l"(from)
                 : "memory");
    return words[0] != EMPTY && words[1] != EMPTY && words[2] != EMPTY && words[3] != EMPTY;
}
DEVICE bool receive(const u32* from, u32 (&words)[2]) {
    asm volatile("ld.volatile.global.v2.u32 {%0, %1}, [%2];" : "=r"(words[0]), "=r"(words[1]) : "l"(from) : "memory");
    return words[0] != EMPTY && words[1] != EMPTY;
}
DEVICE void store(uint4* to, const uint4& words) { *to = words; }
DEVICE void wait_a_little() {}  // sleeping, even 64 ns, made the step 1 % slower

// --- global memory that other blocks write: never from the first-level cache, which is not kept coherent

DEVICE u32 load_fresh(const u32* from) {
    u32 value;
    asm volatile("ld.global.cg.u32 %0, [%1];" : "=r"(value) : "l"(from) : "memory");
    return value;
}
DEVICE float load_fresh(const float* from) {
    float value;
    asm volatile("ld.global.cg.f32 %0, [%1];" : "=f"(value) : "l"(from) : "memory");
    return value;
}

DEVICE u64 cycles() { return clock64(); }
DEVICE void publish() { __threadfence(); }
DEVICE u32 count_up(u32* counter) { return atomicAdd(counter, 1u); }

// --- numbers

DEVICE u32 bits_of(float value) { return __float_as_uint(value); }
DEVICE float of_bits(u32 bits) { return __uint_as_float(bits); }
// (word & mask) | bits in one instruction; left to itself the compiler takes two, each with one of the constants.
DEVICE u32 and_or(u32 word, u32 mask, u32 bits) {
    u32 result;
    asm("lop3.b32 %0, %1, %2, %3, 0xea;" : "=r"(result) : "r"(word), "r"(mask), "r"(bits));
    return result;
}
DEVICE u32 pick_bytes(u32 a, u32 b, u32 selector) { return __byte_perm(a, b, selector); }
DEVICE float exp2_fast(float x) { return exp2f(x); }
DEVICE float exp_fast(float x) { return __expf(x); }
DEVICE float inverse_root(float x) { return rsqrtf(x); }

#if HALF_IS_BF16
DEVICE float wide(u16 half) { return __uint_as_float(static_cast<u32>(half) << 16); }
DEVICE u16 narrow(float value) {
    u16 half;
    asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(half) : "f"(value));
    return half;
}
#define MMA_TYPE "bf16"
#else
DEVICE float wide(u16 half) {
    float value;
    asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(half));
    return value;
}
DEVICE u16 narrow(float value) {
    u16 half;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(half) : "f"(value));
    return half;
}
#define MMA_TYPE "f16"
#endif

// sums [16 x 8] += a [16 x 16] b [16 x 8] by the 32 lanes of a warp. Lane 4 g + t holds, as pairs of halves,
// a0: row g, columns 2t, 2t+1; a1: row g+8; a2, a3: the same rows, columns 2t+8, 2t+9; b0: rows 2t, 2t+1 of column g;
// b1: rows 2t+8, 2t+9; sums 0, 1: row g, columns 2t, 2t+1; sums 2, 3: row g+8.
DEVICE void multiply_add(float (&sums)[4], u32 a0, u32 a1, u32 a2, u32 a3, u32 b0, u32 b1) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32." MMA_TYPE "." MMA_TYPE
                 ".f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
                 : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
}
