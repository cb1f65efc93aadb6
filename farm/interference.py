"""Did running side by side falsify the figures? One cell, the canary, is measured alone and again among neighbours.

The physics: groups on different GPUs share a host: its cores, its memory bus, its PCIe switches, its power and its
air. A launch-bound cell feels all of that first, so the canary is the sweep's shortest cell, on the same device twice.
What such a canary felt may be the host alone, so it speaks for launch-bound rows only: a step that is one CUDA graph
does not wait for the host, and a canary that was one is what would speak for it.

    found = interference(alone, busy, asked=True)
    found.decode.percent, found.is_disturbing

Pure. The canary's records lie apart (DIR/canary) and enter no average, no table and no figure.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from farm.formulas import tpot_s
from farm.records import Neighbours, Record, Status, Trial
from farm.stats import bootstrap_ratio_ci, median
from farm.verdict import is_launch_bound, launch_share

LIMIT_PERCENT = 5.0  # a shift that is surely larger than this spoils what was measured among neighbours


@dataclass(frozen=True, slots=True)
class Shift:
    """How much longer something took among neighbours, in percent, with its 95 % interval."""

    percent: float
    ci_low: float
    ci_high: float


@dataclass(frozen=True, slots=True)
class Interference:
    """What the canary says. Shifts are those of the time per output token and of the prefill; None with a `reason`."""

    cell: str | None = None
    decode: Shift | None = None
    prefill: Shift | None = None
    neighbours: Neighbours | None = None
    reason: str | None = None
    limit_percent: float = LIMIT_PERCENT
    is_launch_bound: bool = False  # the canary alone: then its shift is the host's, and only the like of it is meant

    @property
    def is_disturbing(self) -> bool:
        """True when a whole interval lies above the limit: noise alone never condemns a run."""
        return any(shift.ci_low > self.limit_percent for shift in (self.decode, self.prefill) if shift is not None)


def interference(alone: Record | None, busy: Record | None, asked: bool) -> Interference:
    """Compare the canary's two records; where that is not possible, the reason."""
    if not asked and busy is None:  # a run that was asked once and goes on without being asked again keeps its canary
        return Interference(reason="not measured; run with --canary, or set canary: true in the sweep")
    if alone is None or busy is None:
        return Interference(reason="the canary was not measured twice: only one group could run at a time")
    reason = _why_not(alone, busy)
    if reason is not None or alone.speed is None or busy.speed is None:
        return Interference(cell=alone.cell.label, neighbours=busy.neighbours, reason=reason)
    before, after = alone.speed.trials, busy.speed.trials
    decode, prefill = shift(_tpot(before), _tpot(after)), shift(_prefill(before), _prefill(after))
    bound = is_launch_bound(launch_share(alone.speed))
    return Interference(alone.cell.label, decode, prefill, busy.neighbours, is_launch_bound=bound)


def _why_not(alone: Record, busy: Record) -> str | None:
    failed = next((record for record in (alone, busy) if record.status is not Status.OK), None)
    if failed is not None:
        return f"the canary ended {failed.status.value}: {failed.failure.message if failed.failure else 'no reason'}"
    if busy.neighbours is None or busy.neighbours.fewest == 0:
        return "no other group was at work on the canary's machine all the time"
    if _device(alone) != _device(busy):
        return "the canary was measured on two devices: alone on one, among neighbours on another"
    return None


def _device(record: Record) -> tuple[str, str | None] | None:
    where = record.environment
    return None if where is None else (where.host, where.device_uuid)


def shift(alone: Sequence[float], busy: Sequence[float]) -> Shift | None:
    """Of the medians; None with too few samples for an interval."""
    if not alone or not busy:
        return None
    low, high = bootstrap_ratio_ci(busy, alone)
    if low is None or high is None:
        return None
    return Shift(*(100 * (ratio - 1) for ratio in (median(busy) / median(alone), low, high)))


def _tpot(trials: Iterable[Trial]) -> list[float]:
    return [seconds for trial in trials if (seconds := tpot_s(trial)) is not None]


def _prefill(trials: Iterable[Trial]) -> list[float]:
    return [trial.prefill_s for trial in trials]


def marked(records: Iterable[Record], found: Interference) -> tuple[Record, ...]:
    """Where the canary was disturbed, so may have been all of its kind that was measured among neighbours."""
    if not found.is_disturbing:
        return tuple(records)
    return tuple(_marked(record, found) for record in records)


def _marked(record: Record, found: Interference) -> Record:
    neighbours = record.neighbours
    if record.speed is None or neighbours is None or not neighbours.most:
        return record
    if found.is_launch_bound and not is_launch_bound(launch_share(record.speed)):
        return record
    return replace(record, disturbed=_evidence(neighbours, found))


def _evidence(neighbours: Neighbours, found: Interference) -> str:
    worst = max((shift.percent for shift in (found.decode, found.prefill) if shift is not None), default=0.0)
    return f"up to {neighbours.most} other group(s) on its machine; among neighbours the canary took {worst:+.1f} %"
