"""The GPU's clock and power in each phase of a generation, and its first tokens beside the others.

Why: a prompt may run at the card's power limit, which lowers the clock, and the first tokens behind it are decoded
before the clock has risen again. A row of 12 new tokens is then slower than one of 128, by the card and not the engine.
Why passes of their own: each reading takes the interpreter lock and some of the driver's time from the host.

    phases = watch_phases(engine, begin, new_tokens=128, runs=3, ticks=ticks_of("cuda"))
    phases.decode.median_mhz, phases.first_s
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from farm.stats import median
from farm.telemetry import Sample
from jobs.engines.base import Engine, Generation
from jobs.nvml import open_gpu
from jobs.telemetry import read_sample
from jobs.ticker import Ticker, Ticks

FIRST_STEPS = 11  # of a row of 12 new tokens
PERIOD_S = 0.005


@dataclass(frozen=True, slots=True)
class Clocks:
    """Of the readings within one phase; None where the GPU does not tell or the phase was over before the first."""

    readings: int
    lowest_mhz: float | None
    median_mhz: float | None
    median_w: float | None


@dataclass(frozen=True, slots=True)
class Phases:
    """`first_s`, `later_s`: seconds of one decode step, of the first FIRST_STEPS and of the others."""

    prefill: Clocks
    decode: Clocks
    first_s: float
    later_s: float | None


def ticks_of(device: str) -> Ticks[Sample] | None:
    """None where there is no GPU to ask."""
    gpu = open_gpu(device).gpu
    return None if gpu is None else Ticker(lambda: read_sample(gpu), PERIOD_S)


def watch_phases(
    engine: Engine, begin: Callable[[], Generation], new_tokens: int, runs: int, ticks: Ticks[Sample] | None
) -> Phases:
    """Generations as they are timed, each phase watched for itself."""
    prefills, decodes, steps = list[Sample](), list[Sample](), list[tuple[float, float | None]]()
    for _ in range(runs):
        generation = begin()
        prefills += _watched(engine, ticks, partial(_prefill, generation))
        marks: list[object] = []
        decodes += _watched(engine, ticks, partial(_decode, engine, generation, new_tokens - 1, marks))
        steps.append(_step_s(engine, marks, new_tokens - 1))
    later = [each for _, each in steps if each is not None]
    return Phases(
        clocks(prefills), clocks(decodes), median([each for each, _ in steps]), median(later) if later else None
    )


def _watched(engine: Engine, ticks: Ticks[Sample] | None, work: Callable[[], object]) -> list[Sample]:
    """From a device with nothing to do to one that has done the work."""
    engine.stopwatch.synchronize()
    if ticks is not None:
        ticks.start()
    work()
    engine.stopwatch.synchronize()
    return [] if ticks is None else ticks.stop()


def _prefill(generation: Generation) -> None:
    generation.prefill()
    generation.first_token()


def _decode(engine: Engine, generation: Generation, steps: int, marks: list[object]) -> None:
    """Marks before the first step, behind FIRST_STEPS or all of fewer, and behind the last."""
    marks.append(engine.stopwatch.mark())
    for step in range(1, steps + 1):
        generation.decode_step()
        if step in (min(FIRST_STEPS, steps), steps):
            marks.append(engine.stopwatch.mark())


def _step_s(engine: Engine, marks: list[object], steps: int) -> tuple[float, float | None]:
    """Seconds of one of the first steps and of one of the others."""
    first = engine.stopwatch.seconds_between(marks[0], marks[1]) / min(FIRST_STEPS, steps)
    if steps <= FIRST_STEPS:
        return first, None
    return first, engine.stopwatch.seconds_between(marks[1], marks[2]) / (steps - FIRST_STEPS)


def clocks(samples: Sequence[Sample]) -> Clocks:
    mhz = [sample.sm_clock_hz / 1e6 for sample in samples if sample.sm_clock_hz is not None]
    watts = [sample.power_w for sample in samples if sample.power_w is not None]
    return Clocks(
        readings=len(samples),
        lowest_mhz=min(mhz, default=None),
        median_mhz=median(mhz) if mhz else None,
        median_w=median(watts) if watts else None,
    )


def phase_lines(phases: Phases) -> list[str]:
    later = "-" if phases.later_s is None else f"{1 / phases.later_s:.4g}"
    speeds = f"; the first {FIRST_STEPS} steps {1 / phases.first_s:.4g} a second, the others {later}"
    return [f"    prefill: {_told(phases.prefill)}", f"    decode: {_told(phases.decode)}{speeds}"]


def _told(found: Clocks) -> str:
    if found.median_mhz is None:
        return "clock not told"
    power = "" if found.median_w is None else f", {found.median_w:.0f} W"
    return f"{found.lowest_mhz:.0f} MHz at least, median {found.median_mhz:.0f}{power} ({found.readings} readings)"
