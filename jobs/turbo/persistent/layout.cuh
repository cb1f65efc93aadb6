// Sizes, the table that the host fills, and what lies where in shared memory.
//
// Given by the compiler's command line: HALF_IS_BF16, LAYERS, HIDDEN, INNER, HEADS, KV_HEADS, HEAD_DIM, VOCAB, EPS, SCALE,
// LAYER_BITS and HEAD_BITS (16, 8, 4), SLICE_BYTES, WARPS (that multiply), BLOCKS (one a multiprocessor), SHARED_BYTES (of one),
// TRACED (0 or 1), AHEAD_KIB (that a scout keeps the second-level cache ahead of the ring).

constexpr int CONSUMERS = WARPS * 32;
constexpr int THREADS = CONSUMERS + (AHEAD_KIB > 0 ? 64 : 32);  // and one warp that asks for memory, and its scout
constexpr int GROUP = 128;               // inputs to a scale of 4-bit weights

constexpr int TILE = 16;           // rows of a matrix that a block multiplies at once: the height of an mma
constexpr int SLICE = SLICE_BYTES;  // of each of them in one stage of the ring
constexpr int PIECE = 64;          // bytes of each of them that a warp multiplies at once: four lanes of 16 bytes
constexpr int PITCH = SLICE + 64;  // rows two apart then lie in other banks
constexpr int SCALES_AT = TILE * PITCH;
constexpr int SCALES_PITCH = SLICE * 2 / GROUP * 2 + 16;  // bytes: a 16-bit scale a group of a 4-bit slice, banks apart
constexpr int STAGE = SCALES_AT + TILE * SCALES_PITCH;

constexpr int SHARERS = HEADS / KV_HEADS;    // query heads of a key/value head
constexpr int SPLITS = BLOCKS / KV_HEADS;    // blocks that share the positions of a key/value head
constexpr int CHUNK = TILE * SLICE / (2 * HEAD_DIM);  // positions of the cache in one stage
constexpr int LANE_DIMS = HEAD_DIM / 32;
constexpr int QKV = (HEADS + 2 * KV_HEADS) * HEAD_DIM;
constexpr int ATTENDED = HEADS * HEAD_DIM;

constexpr int SUM_TILES = 16;               // tiles whose sums there is room for,
constexpr int GROUP_TILES = SUM_TILES / 2;  // of them those that are added up at once, while warps go on with the others, or
constexpr int GATED_TILES = 4;              // those of the gated product: its results are the most, and leave sooner
constexpr int AHEAD = AHEAD_KIB * 1024 / (TILE * SLICE);  // stages that the scout is ahead

CONSTANT int least(int a, int b) { return a < b ? a : b; }
CONSTANT int most(int a, int b) { return a > b ? a : b; }
CONSTANT int rounds(int all, int each) { return (all + each - 1) / each; }

// The last product of a layer begins before its last inputs are there: by the first EARLY_SLICES stages of each tile, whose
// inputs every block has sent before its last group of GATED_TILES. 0, all at once, where one group is all there is or the
// sums of a block's tiles have no room.
constexpr int SLICE_COLUMNS = SLICE * 8 / LAYER_BITS;
constexpr int LAST_GATED = (rounds(2 * INNER / TILE, BLOCKS) - 1) / GATED_TILES * GATED_TILES * BLOCKS * (TILE / 2);
constexpr int EARLY_SLICES = rounds(HIDDEN / TILE, BLOCKS) <= SUM_TILES ? LAST_GATED / SLICE_COLUMNS : 0;
constexpr int EARLY_COLUMNS = EARLY_SLICES * SLICE_COLUMNS;

// Weights of [rows, columns]: 16 bit, int8 with a scale a row, or 4 bit with a scale a group (see `jobs.turbo.weights`).
struct Matrix {
    const u8* codes;
    const u16* scales;
};

struct LayerTable {
    const u16* attention_norm;
    Matrix qkv, out;
    const u16* mlp_norm;
    Matrix gate_up, down;
};

struct StepTable {
    const u16* embedding;  // [VOCAB, HIDDEN]
    const u16* norm;
    Matrix head;
    const u16 *cos, *sin;  // [positions, rotary_stride]
    u64 rotary_stride;
    u8 *keys, *values;  // [LAYERS, KV_HEADS, max_len, HEAD_DIM]
    u64 max_len;
    u64 *token, *ids, *counters;  // see `jobs.turbo.step.DecodeState`
    u32* mail;          // [2, LAYERS, LAYER_WORDS]: see `LayerMail`; one half for this launch, the other is emptied by it
    float* best_logit;  // [BLOCKS]
    u32* best_token;
    u32* launches;  // so far
    u32* finished;  // blocks; 0 between launches
    u64* trace;     // [BLOCKS, LAYERS, MARKS] of clock cycles, with TRACED
    LayerTable layer[LAYERS];
};

// A share of attention: for each query head the sums of its dimensions, then maximum and total; padded to 16 bytes.
constexpr int SHARE_PITCH = HEAD_DIM + 4;
constexpr int SHARE_WORDS = SHARERS * SHARE_PITCH;
constexpr int LAYER_WORDS = (QKV + ATTENDED + HIDDEN + INNER + HIDDEN) / 2 + KV_HEADS * SPLITS * SHARE_WORDS;
constexpr int MAIL_WORDS = LAYERS * LAYER_WORDS;

// What the blocks tell each other in one layer: vectors as pairs of halves. Each word is written once a launch, so that
// none is overwritten before everybody has read it.
struct LayerMail {
    u32 *qkv, *shares, *attended, *middle, *inner, *hidden;  // middle, hidden: after attention, after the feed-forward

    DEVICE LayerMail(u32* mail, int layer) {
        qkv = mail + static_cast<u64>(layer) * LAYER_WORDS;
        attended = qkv + QKV / 2;
        middle = attended + ATTENDED / 2;
        inner = middle + HIDDEN / 2;
        hidden = inner + INNER / 2;
        shares = hidden + HIDDEN / 2;
    }
    DEVICE u32* share_of(int head, int split) const { return shares + (head * SPLITS + split) * SHARE_WORDS; }
};

// Points of a layer that a traced build times, in the order of the step.
enum Mark { HAS_INPUT, QKV_SENT, SHARE_SENT, HAS_ATTENDED, MIDDLE_SENT, HAS_MIDDLE, INNER_SENT, HAS_EARLY, HAS_INNER, HIDDEN_SENT, RING_FULL, MARKS };

DEVICE void mark(const StepTable& step, int layer, Mark point) {
#if TRACED
    if (thread_number() == 0) step.trace[(block_number() * LAYERS + layer) * MARKS + point] = cycles();
#endif
}

// What attention keeps where a product keeps its inputs.
struct AttentionScratch {
    alignas(16) u16 query[8][HEAD_DIM];
    alignas(16) u16 key[HEAD_DIM], value[HEAD_DIM];
    alignas(16) float weights[WARPS][16][8];
    float rescale[WARPS][8], maxima[WARPS][8], totals[WARPS][8];
    float sums[WARPS][SHARERS][HEAD_DIM];
};

constexpr int MOST_INPUTS = most(most(HIDDEN, INNER), ATTENDED);
constexpr int INPUT_BYTES = rounds(most(2 * MOST_INPUTS, static_cast<int>(sizeof(AttentionScratch))), 128) * 128;

struct Desk {
    alignas(128) u8 inputs[INPUT_BYTES];  // halves, or the scratch of attention
    float corrections[rounds(MOST_INPUTS, 64)];
    float sums[SUM_TILES][WARPS][TILE];
    float by_warp[WARPS];
    int best[WARPS];
    u32 flag;
    u32 asked;  // stages so far, for the scout
};

// What is left is the ring's: about five stages.
constexpr int STAGES = (SHARED_BYTES - static_cast<int>(sizeof(Desk)) - 256) / STAGE;
static_assert(STAGES >= 2, "the vectors leave no room to read ahead");

struct Shared : Desk {
    alignas(128) u8 stage[STAGES][STAGE];
    Barrier full[STAGES], empty[STAGES];
};
static_assert(sizeof(Shared) <= SHARED_BYTES, "more than a multiprocessor has");
