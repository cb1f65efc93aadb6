"""The clock readings themselves: one generation by phases, its tokens one by one, any piece of work.

Why one pass for both phases: prefill timed through `generate(max_new_tokens=1)` carries generate's own overhead, and
decode as a difference of two runs can go negative. Here the prompt's forward is timed, its cache is handed over, and
the later tokens are enqueued back to back; the host waits for the device only at the two phase edges. Gaps between
single tokens come from a pass of their own, since looking at every token would slow the throughput being measured.

    trial = time_generation(engine, engine.begin(prompts, "on", 128), 128)
"""

from collections.abc import Callable
from dataclasses import dataclass

from farm.records import Trial
from jobs.engines.base import Engine, Generation


@dataclass(frozen=True, slots=True)
class Gap:
    """One later token: the time until it was there, and how much of it the host took to hand out the work."""

    whole_s: float
    enqueue_s: float


def time_generation(engine: Engine, generation: Generation, new_tokens: int) -> Trial:
    """Time one generation. Waits for the device at the phase edges only: before, after the first token, at the end."""
    watch = engine.stopwatch
    watch.synchronize()
    start, prefill_begins = watch.now(), watch.mark()
    generation.prefill()
    prefill_ends = watch.mark()
    generation.first_token()
    watch.synchronize()
    first_token, decode_begins = watch.now(), watch.mark()
    for _ in range(new_tokens - 1):
        generation.decode_step()
    decode_ends = watch.mark()
    watch.synchronize()
    end = watch.now()
    return Trial(
        index=0,
        prompt_indexes=(),
        ttft_s=first_token - start,
        prefill_s=watch.seconds_between(prefill_begins, prefill_ends),
        decode_s=end - first_token,
        decode_device_s=watch.seconds_between(decode_begins, decode_ends),
        e2e_s=end - start,
        output_tokens=new_tokens,
    )


def timed(engine: Engine, work: Callable[[], object]) -> float:
    """Host seconds of one piece of work, the device waited for on both sides."""
    watch = engine.stopwatch
    watch.synchronize()
    start = watch.now()
    work()
    watch.synchronize()
    return watch.now() - start


def time_each_token(engine: Engine, generation: Generation, new_tokens: int) -> tuple[Gap, ...]:
    """The gap before each later token of a generation that has its first; waits for the device after every one."""
    watch = engine.stopwatch
    gaps = []
    watch.synchronize()
    before = watch.now()
    for _ in range(new_tokens - 1):
        generation.decode_step()
        handed_out = watch.now()
        watch.synchronize()
        after = watch.now()
        gaps.append(Gap(after - before, handed_out - before))
        before = after
    return tuple(gaps)
