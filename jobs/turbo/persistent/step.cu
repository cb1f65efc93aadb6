// One token of a decoder in one launch: a block a multiprocessor, which stays until the token is chosen.
//
// Why: as kernels, a step of Llama-3-8B pauses its reading about 200 times, each time until the next kernel's first bytes
// arrive. Here one warp of each block reads on without a pause (`ring.cuh`) while the others multiply, and wait for the
// other blocks five times a layer.

struct Blocks {  // that have come to the same point
    u32* counter;
    u32 expected = 0;

    DEVICE void meet() {
        expected += BLOCKS;
        consumers_sync();
        if (thread_number() == 0) {
            publish();
            count_up(counter);
            wait_for(counter, expected);
        }
        consumers_sync();
    }
};

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

DEVICE void append(const StepTable& step, const Best& best, int position) {
    *step.token = best.token;
    step.ids[position + 1] = best.token;
    step.counters[0] = position + 1;
    step.counters[1] = position + 2;
    *step.arrived = *step.finished = 0;  // all blocks have passed: ready for the next launch
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
    if (!is_last(shared, step.finished, BLOCKS) || warp > 0) return;
    Best all;
    for (int block = lane; block < BLOCKS; block += 32)
        all.offer(load_fresh(step.best_logit + block), static_cast<int>(load_fresh(step.best_token + block)));
    all.over_warp();
    if (lane == 0) append(step, all, position);
}

DEVICE void attention_block(Ring& ring, Turns& turns, Blocks& blocks, const StepTable& step, int layer, int position, const u16* x) {
    multiply<LAYER_BITS, QKV, HIDDEN, false>(
        ring, turns, [&](int row, float sum, float) { step.qkv[row] = narrow(sum); });
    blocks.meet();
    attend(ring, step, layer, position);
    blocks.meet();
    stage_vector<LAYER_BITS, ATTENDED>(ring.shared, step.attended);
    multiply<LAYER_BITS, HIDDEN, ATTENDED, false>(
        ring, turns, [&](int row, float sum, float) { step.hidden[row] = added(sum, load_fresh(x + row)); });
}

DEVICE void feed_forward_block(Ring& ring, Turns& turns, Blocks& blocks, const StepTable& step) {
    multiply<LAYER_BITS, 2 * INNER, HIDDEN, true>(
        ring, turns, [&](int row, float gate, float up) { step.inner[row] = gated(gate, up); });
    blocks.meet();
    stage_vector<LAYER_BITS, INNER>(ring.shared, step.inner);
    multiply<LAYER_BITS, HIDDEN, INNER, false>(ring, turns, [&](int row, float sum, float) {
        step.hidden[row] = added(sum, load_fresh(step.hidden + row));
    });
}

DEVICE void compute(const StepTable& step, Shared* shared, int position) {
    Ring ring{shared};
    Turns turns;
    Blocks blocks{step.arrived};
    const u16* x = step.embedding + *step.token * HIDDEN;
    Gains gains(step.layer[0].attention_norm);
    for (int layer = 0; layer < LAYERS; layer++) {
        stage_normed<LAYER_BITS>(shared, x, gains);
        attention_block(ring, turns, blocks, step, layer, position, x);
        gains = Gains(step.layer[layer].mlp_norm);
        blocks.meet();
        stage_normed<LAYER_BITS>(shared, step.hidden, gains);
        feed_forward_block(ring, turns, blocks, step);
        gains = Gains(layer + 1 < LAYERS ? step.layer[layer + 1].attention_norm : step.norm);
        blocks.meet();
        x = step.hidden;
    }
    stage_normed<HEAD_BITS>(shared, x, gains);
    Best best;
    multiply<HEAD_BITS, VOCAB, HIDDEN, false>(
        ring, turns, [&](int row, float sum, float) { best.offer(wide(narrow(sum)), row); });
    choose_token(shared, step, best, position);
}

KERNEL decode_step(const StepTable* step) {
    Shared* shared = reinterpret_cast<Shared*>(shared_memory());
    const int position = static_cast<int>(step->counters[0]);
    if (thread_number() == 0) {
        for (int stage = 0; stage < STAGES; stage++) {
            barrier_init(&shared->full[stage], 1);
            barrier_init(&shared->empty[stage], WARPS);
        }
        barriers_are_made();
    }
    block_sync();
    if (thread_number() < CONSUMERS)
        compute(*step, shared, position);
    else
        ask_for_everything(*step, shared, position);
}
