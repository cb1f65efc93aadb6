// One token of a decoder in one launch: a block a multiprocessor, which stays until the token is chosen.
//
// Why: as kernels, a step of Llama-3-8B pauses its reading about 200 times, each time until the next kernel's first bytes
// arrive. Here one warp of each block reads on without a pause (`ring.cuh`) while the others multiply, and wait five
// times a layer for what other blocks send.

// The most likely token so far; of equals the first, as argmax has it.
struct Best {
    float logit = NOTHING;
    int token = 0;

    DEVICE void offer(float other_logit, int other) {
        if (other_logit > logit || (other_logit == logit && other < token)) logit = other_logit, token = other;
    }
    DEVICE void over_warp() {
        for (int lanes = 1; lanes < 32; lanes *= 2) {
            const float other_logit = shuffle_xor(logit, lanes);
            offer(other_logit, shuffle_xor(token, lanes));
        }
    }
};

// True in every thread of the last block that comes here.
DEVICE bool is_last(Shared* shared, u32* counter) {
    consumers_sync();
    if (thread_number() == 0) {
        publish();
        shared->flag = count_up(counter) == BLOCKS - 1;
        publish();
    }
    consumers_sync();
    return shared->flag != 0;
}

// All blocks have passed: everything is ready for the next launch.
DEVICE void append(const StepTable& step, const Best& best, int position) {
    *step.token = best.token;
    step.ids[position + 1] = best.token;
    step.counters[0] = position + 1;
    step.counters[1] = position + 2;
    *step.finished = 0;
    *step.launches += 1;
}

DEVICE void choose_token(Shared* shared, const StepTable& step, Best best, int position) {
    best.over_warp();
    const int warp = thread_number() / 32, lane = thread_number() % 32;
    if (lane == 0) shared->by_warp[warp] = best.logit, shared->best[warp] = best.token;
    consumers_sync();
    if (thread_number() == 0) {
        for (int w = 1; w < WARPS; w++) best.offer(shared->by_warp[w], shared->best[w]);
        step.best_logit[block_number()] = best.logit;
        step.best_token[block_number()] = best.token;
    }
    if (!is_last(shared, step.finished) || warp > 0) return;
    Best all;
    for (int block = lane; block < BLOCKS; block += 32)
        all.offer(load_fresh(step.best_logit + block), static_cast<int>(load_fresh(step.best_token + block)));
    all.over_warp();
    if (lane == 0) append(step, all, position);
}

// The vector that attention or the feed-forward is added to. Reading it takes as long as a stage of a product, so each
// thread reads the first pair that it will need before the product.
struct Residual {
    const u32* pairs;
    int row_read = -1;
    u32 read = 0;

    DEVICE void read_before(const Turns& turns) {
        const int tile = turns.first() + thread_number() / (TILE / 2) * BLOCKS;
        if (tile >= HIDDEN / TILE) return;
        row_read = tile * TILE + 2 * (thread_number() % (TILE / 2));
        read = load_fresh(pairs + row_read / 2);
    }
    DEVICE u32 add(int row, const Two& sums) const {
        const u32 pair = row == row_read ? read : load_fresh(pairs + row / 2);
        return pair_of(added(sums.first, static_cast<u16>(pair)), added(sums.second, static_cast<u16>(pair >> 16)));
    }
};

struct Step {
    Ring ring;
    Turns turns;
    const StepTable& table;
    u32* mail;
    int position;
};

DEVICE void attention_block(Step& step, int layer, const Part<HIDDEN>& x, const Part<HIDDEN>& gains, Residual residual) {
    const LayerMail mail(step.mail, layer);
    stage_normed<LAYER_BITS>(step.ring.shared, x, gains);
    multiply<LAYER_BITS, QKV, HIDDEN, false>(step.ring, step.turns, [&](int row, const Two& sums, const Two&) {
        send(mail.qkv + row / 2, pair_of(narrow(sums.first), narrow(sums.second)));
    });
    mark(step.table, layer, QKV_SENT);
    attend(step.ring, step.table, mail, layer, step.position);
    stage_received<LAYER_BITS, ATTENDED>(step.ring.shared, mail.attended);
    mark(step.table, layer, HAS_ATTENDED);
    residual.read_before(step.turns);
    multiply<LAYER_BITS, HIDDEN, ATTENDED, false>(step.ring, step.turns, [&](int row, const Two& sums, const Two&) {
        send(mail.middle + row / 2, residual.add(row, sums));
    });
    mark(step.table, layer, MIDDLE_SENT);
}

DEVICE void feed_forward_block(Step& step, int layer) {
    const LayerMail mail(step.mail, layer);
    Residual residual{mail.middle};
    Part<HIDDEN> x, gains;
    gains.read(step.table.layer[layer].mlp_norm);
    x.receive_from(mail.middle);
    mark(step.table, layer, HAS_MIDDLE);
    stage_normed<LAYER_BITS>(step.ring.shared, x, gains);
    multiply<LAYER_BITS, 2 * INNER, HIDDEN, true>(step.ring, step.turns, [&](int row, const Two& gate, const Two& up) {
        send(mail.inner + row / 2, pair_of(gated(gate.first, up.first), gated(gate.second, up.second)));
    });
    mark(step.table, layer, INNER_SENT);
    residual.read_before(step.turns);
    constexpr int EARLY_BYTES = EARLY_SLICES * SLICE;
    if constexpr (EARLY_BYTES > 0) {
        stage_received<LAYER_BITS, EARLY_COLUMNS>(step.ring.shared, mail.inner);
        mark(step.table, layer, HAS_EARLY);
        begin_to_multiply<LAYER_BITS, HIDDEN, EARLY_BYTES>(step.ring, step.turns);
    } else {
        mark(step.table, layer, HAS_EARLY);
    }
    stage_received<LAYER_BITS, INNER - EARLY_COLUMNS, EARLY_COLUMNS>(step.ring.shared, mail.inner);
    mark(step.table, layer, HAS_INNER);
    multiply<LAYER_BITS, HIDDEN, INNER, false, EARLY_BYTES>(step.ring, step.turns, [&](int row, const Two& sums, const Two&) {
        send(mail.hidden + row / 2, residual.add(row, sums));
    });
    mark(step.table, layer, HIDDEN_SENT);
}

DEVICE Best head_block(Step& step, const Part<HIDDEN>& x, const Part<HIDDEN>& gains) {
    Best best;
    stage_normed<HEAD_BITS>(step.ring.shared, x, gains);
    multiply<HEAD_BITS, VOCAB, HIDDEN, false>(step.ring, step.turns, [&](int row, const Two& sums, const Two&) {
        best.offer(wide(narrow(sums.first)), row);
        best.offer(wide(narrow(sums.second)), row + 1);
    });
    return best;
}

DEVICE void compute(const StepTable& table, Shared* shared, u32* mail, int position) {
    Step step{{shared}, {}, table, mail, position};
    Residual residual{reinterpret_cast<const u32*>(table.embedding + *table.token * HIDDEN)};
    Part<HIDDEN> x, gains;
    x.read(residual.pairs);
    gains.read(table.layer[0].attention_norm);
    for (int layer = 0; layer < LAYERS; layer++) {
        mark(table, layer, HAS_INPUT);
        attention_block(step, layer, x, gains, residual);
        feed_forward_block(step, layer);
        residual = {LayerMail(mail, layer).hidden};
        gains.read(layer + 1 < LAYERS ? table.layer[layer + 1].attention_norm : table.norm);
        x.receive_from(residual.pairs);
    }
    choose_token(shared, table, head_block(step, x, gains), position);
}

// By the warp that has nothing more to ask for: the next launch's mail.
DEVICE void empty(u32* mail) {
    static_assert(MAIL_WORDS % 4 == 0, "words are emptied four at a time");
    for (int i = block_number() * 32 + thread_number() % 32; i < MAIL_WORDS / 4; i += BLOCKS * 32)
        store(reinterpret_cast<uint4*>(mail) + i, {EMPTY, EMPTY, EMPTY, EMPTY});
}

KERNEL decode_step(const StepTable* step) {
    Shared* shared = reinterpret_cast<Shared*>(shared_memory());
    const int position = static_cast<int>(step->counters[0]);
    if (thread_number() == 0) {
        for (int stage = 0; stage < STAGES; stage++) {
            barrier_init(&shared->full[stage], 1);
            barrier_init(&shared->empty[stage], WARPS);
        }
        shared->asked = 0;
        barriers_are_made();
    }
    block_sync();
    const u32 half = *step->launches % 2;
    if (thread_number() < CONSUMERS) {
        compute(*step, shared, step->mail + half * MAIL_WORDS, position);
    } else if (thread_number() < CONSUMERS + 32) {
        Asker asker{{shared}};
        ask_for_everything(asker, *step, position);
        empty(step->mail + (1 - half) * MAIL_WORDS);
    } else if constexpr (AHEAD > 0) {
        Scout scout{shared};
        ask_for_everything(scout, *step, position);
    }
}
