"""Where the persistent step's time goes: `python -m tests.perf.turbo_trace --precision int4wo`.

A traced build notes the clock of every multiprocessor at ten points of each layer. Printed is the mean time from
point to point over all layers and blocks, with the slowest block beside it, and for how much of the step the ring was
full: then nothing more could be asked for, and memory may have stood still. What a layer's bytes take at the copy
bandwidth is the line to compare with.
"""

import argparse
from dataclasses import replace
from typing import Any

import torch

from farm.architectures import KNOWN
from jobs.device_limits import measure_limits
from jobs.models.random_weights import build_random
from jobs.turbo.cache import KvCache
from jobs.turbo.decoder import TurboDecoder
from jobs.turbo.persistent import PersistentStep, build_for
from jobs.turbo.persistent.compiler import compiled_kernel
from jobs.turbo.persistent.step import MARKS
from jobs.turbo.recipe import recipe_for
from jobs.turbo.step import DecodeState
from jobs.turbo.weights import weight_bytes
from tests.perf.turbo_outcomes import options_of
from tests.perf.turbo_variants import device_s

STEPS = 20


def main() -> None:
    given = _arguments()
    decoder = TurboDecoder(
        build_random(KNOWN["llama-3-8b"], torch.float16, "cuda", seed=0), recipe_for(given.precision)
    )
    step = _traced_step(decoder, given)
    step_s = _time(step)
    _say(decoder, given, step, step_s)


def _arguments() -> argparse.Namespace:
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("--precision", default="int4wo", choices=["fp16", "int8wo", "int4wo"])
    ask.add_argument("--context", type=int, default=1920)
    ask.add_argument(
        "--variant", default="base", help="Options of the build, as `tests.perf.turbo_variants` names them."
    )
    ask.add_argument("--no-trace", action="store_true", help="Time the step alone.")
    return ask.parse_args()


def _traced_step(decoder: TurboDecoder, given: argparse.Namespace) -> PersistentStep:
    longest = given.context + 4 * STEPS
    cache = KvCache.allocate(decoder.shape, 1, longest, like=decoder.weights.embedding)
    state = DecodeState.allocate(1, longest, decoder.device)
    state.take_first(decoder.prefill(torch.randint(0, 1000, (1, given.context), device="cuda"), cache), given.context)
    blocks = torch.cuda.get_device_properties(0).multi_processor_count
    build = replace(
        build_for(decoder.shape, decoder.weights, blocks),
        traced=not given.no_trace,
        **options_of(given.variant),
    )
    kernel = compiled_kernel(build, decoder.device)
    return PersistentStep(build, decoder.weights, decoder.table.rows(longest), state, cache, kernel)


def _time(step: PersistentStep) -> float:
    """Seconds of one step, the mean of STEPS after as many discarded."""
    for _ in range(STEPS):
        step.run()
    return device_s(step.run, STEPS)


def _say(decoder: TurboDecoder, given: argparse.Namespace, step: PersistentStep, step_s: float) -> None:
    limits = measure_limits("cuda")
    layer_bytes = sum(weight_bytes(weight) for weight in decoder.weights.layers[0].linears)
    bound_us = 1e6 * layer_bytes / limits.copy_bytes_per_s if limits else float("nan")
    print(f"{given.precision}, {given.variant}: step {1e6 * step_s:.0f} us; a layer's weights alone {bound_us:.1f} us")
    if not given.no_trace:
        _say_trace(step.scratch.trace)


def _say_trace(trace: Any) -> None:
    """trace: [blocks, layers, marks] in cycles of each multiprocessor's own clock."""
    blocks, layers, _ = trace.shape
    cycles_a_us = torch.cuda.clock_rate()  # in MHz
    sharing = trace[:, :, MARKS.index("share")] > 0  # the blocks left over have no share of attention
    points = trace[sharing[:, 0]].double()
    between = points[:, :, 1:-1] - points[:, :, :-2]
    for index, name in enumerate(MARKS[1:-1]):
        mean, slowest = between[:, :, index].mean(), between[:, :, index].mean(dim=1).max()
        print(f"  to {name:12s} {mean / cycles_a_us:7.2f} us   slowest block {slowest / cycles_a_us:7.2f}")
    turn = (points[:, 1:, 0] - points[:, :-1, -2]).mean()
    print(f"  to next input   {turn / cycles_a_us:7.2f} us")
    layer = (points[:, -1, 0] - points[:, 0, 0]).mean() / (layers - 1)
    full = trace[:, -1, -1].double().mean() / layers
    print(
        f"  a layer {layer / cycles_a_us:.2f} us, of them {full / cycles_a_us:.2f} with a full ring ({blocks} blocks)"
    )


if __name__ == "__main__":
    main()
