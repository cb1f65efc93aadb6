"""Which trials count when the host itself was unsteady.

Why: launch-bound work takes as long as the host needs to hand it out, and a shared host changes its speed from second
to second (jobs.host). Trials of a slowed host tell about the neighbour and not about the configuration.

Which trials are set aside is decided by fixed work that was timed beside them, never by a trial's own time, so that
fast ones are not preferred: `is_slow`. And they are only where that matters: where all of them lie well above those of
a quiet host, or where the others agree better. What does not count is set aside, not dropped: it stays in the record,
and the row says how many there were.

    counted, set_aside = sort_out(trials, task, host_best_s)
"""

from collections.abc import Sequence
from dataclasses import replace
from operator import attrgetter

from farm.cells import SpeedTask
from farm.formulas import tpot_s
from farm.records import Record, Trial
from farm.stats import ci_width, median

# Times the fastest probe that this process saw. The clock's own ups and downs cost up to 1.2, a neighbour on the same
# physical core 1.6 to 2.4 (docs/measuring-notes.md).
SLOW_HOST = 1.25
HOST_COST = 1.10  # all trials over those of a quiet host: what is less stays within what the interval may be wide
_EVIDENCE = 3  # trials of a quiet host


def is_slow(probe_s: float | None, best_s: float | None) -> bool:
    """False where nothing was probed."""
    return probe_s is not None and best_s is not None and probe_s > SLOW_HOST * best_s


def sort_out(
    trials: Sequence[Trial], task: SpeedTask, best_s: float | None
) -> tuple[tuple[Trial, ...], tuple[Trial, ...]]:
    """Those that count, and those set aside. All count where it makes no difference, or those left are too few."""
    everything = tuple(trials)
    steady = tuple(trial for trial in trials if not is_slow(trial.host_probe_s, best_s))
    if len(steady) < task.runs or not (is_slowed(everything, best_s) or _is_narrower(steady, everything, task)):
        return everything, ()
    return steady, tuple(trial for trial in trials if is_slow(trial.host_probe_s, best_s))


def is_slowed(trials: Sequence[Trial], best_s: float | None) -> bool:
    """Would a quiet host have given another figure?"""
    cost = slowdown(trials, best_s)
    return cost is not None and cost > HOST_COST


def _is_narrower(some: Sequence[Trial], everything: Sequence[Trial], task: SpeedTask) -> bool:
    if agree(everything, task):
        return False
    width, bound = widest_ci(some), widest_ci(everything)
    return width is not None and bound is not None and width < bound


def sorted_again(record: Record) -> Record:
    """The same trials by the rule as it is now: a record keeps all of them, and the rule has been refined before."""
    speed, task = record.speed, record.cell.task
    if speed is None or not isinstance(task, SpeedTask):
        return record
    trials = sorted((*speed.trials, *speed.set_aside), key=attrgetter("index"))
    counted, set_aside = sort_out(trials, task, speed.telemetry.host_best_probe_s if speed.telemetry else None)
    return replace(record, speed=replace(speed, trials=counted, set_aside=set_aside))


def slowdown(trials: Sequence[Trial], best_s: float | None) -> float | None:
    """How much longer a token took over all trials than over those of a quiet host: 1.1 is 10 %. None with too few."""
    timed = [(trial, gap) for trial in trials if (gap := tpot_s(trial)) is not None]
    quick = [gap for trial, gap in timed if not is_slow(trial.host_probe_s, best_s)]
    return median([gap for _, gap in timed]) / median(quick) if len(quick) >= _EVIDENCE else None


def agree(trials: Sequence[Trial], task: SpeedTask) -> bool:
    """Is the wider interval as narrow as the cell asks for? True for one trial, which has none."""
    width = widest_ci(trials)
    return width is None or width <= task.ci_target


def widest_ci(trials: Sequence[Trial]) -> float | None:
    """The wider of the two intervals that matter: time to first token and time per output token."""
    samples = [trial.ttft_s for trial in trials], [gap for trial in trials if (gap := tpot_s(trial)) is not None]
    widths = [ci_width(each) for each in samples if len(each) > 1]
    return max((width for width in widths if width is not None), default=None)
