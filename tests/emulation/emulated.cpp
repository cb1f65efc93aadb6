// `decode_step` as a function of a shared library; 1 when the fibers wait for each other for ever.
extern "C" int run_decode_step(const StepTable* step) {
    return emulation::run(BLOCKS, THREADS, static_cast<int>(sizeof(Shared)), [=] { decode_step(step); });
}
