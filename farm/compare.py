"""Two runs side by side: which configurations got slower, and is that more than chance?

Why ratios with an interval: two medians always differ. The ratio of the medians is bootstrapped from both runs' trials;
a cell is slower only when its whole 95 % interval lies beyond the tolerance, so a noisy cell is `unclear` and not an
alarm. What one run failed at cannot be divided: `broken` and `mended` say so.

    comparison = compare(old_records, new_records, tolerance=0.05)
    comparison.regressions    # the pairs that a CI should stop for

Cells pair up by what was measured, not by their keys: another number of runs is the same configuration.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from farm.errors import StoreError
from farm.records import Record, Status
from farm.reduce import cell_rows, trial_rows
from farm.rows import CellRow, Identity
from farm.stats import bootstrap_ratio_ci, median

TOLERANCE = 0.05
# Told apart from noise, which the interval already counts: under these a figure is of something else.
_NOT_COMPARABLE = ("throttled", "contended", "short_output", "fallback_kernel", "cold", "slow_host")


@dataclass(frozen=True, slots=True)
class Change:
    """One figure in both runs; `low` and `high` bound new / old with 95 % confidence (None: too few trials)."""

    old: float
    new: float
    low: float | None
    high: float | None
    higher_is_better: bool
    tolerance: float

    @property
    def ratio(self) -> float:
        return self.new / self.old

    @property
    def word(self) -> str:
        """`worse`, `better`, `same` (the interval lies within the tolerance) or `unclear`."""
        if self.low is None or self.high is None:
            return "unclear"
        if self.high < 1 - self.tolerance:
            return "worse" if self.higher_is_better else "better"
        if self.low > 1 + self.tolerance:
            return "better" if self.higher_is_better else "worse"
        inside = 1 - self.tolerance <= self.low and self.high <= 1 + self.tolerance
        return "same" if inside else "unclear"


@dataclass(frozen=True, slots=True)
class Pair:
    """One configuration in both runs. `not_comparable` names the verdicts that forbid to divide."""

    old: CellRow
    new: CellRow
    decode_tok_s: Change | None
    ttft_s: Change | None
    not_comparable: tuple[str, ...] = ()

    @property
    def word(self) -> str:
        """The whole pair in one word; the worst of its figures."""
        if self.old.is_ok != self.new.is_ok:
            return "broken" if self.old.is_ok else "mended"
        if self.not_comparable:
            return "not comparable"
        words = {change.word for change in (self.decode_tok_s, self.ttft_s) if change}
        return next((word for word in ("worse", "unclear", "better", "same") if word in words), "unclear")

    @property
    def is_regression(self) -> bool:
        return self.word in ("worse", "broken")


@dataclass(frozen=True, slots=True)
class Comparison:
    """All pairs in the order of the old run, and the configurations that only one of the runs has."""

    pairs: tuple[Pair, ...]
    only_old: tuple[CellRow, ...]
    only_new: tuple[CellRow, ...]

    @property
    def regressions(self) -> tuple[Pair, ...]:
        return tuple(pair for pair in self.pairs if pair.is_regression)

    @property
    def devices(self) -> tuple[tuple[str | None, ...], tuple[str | None, ...]]:
        """What the old and the new rows ran on."""
        return _devices(pair.old for pair in self.pairs), _devices(pair.new for pair in self.pairs)


def compare(old: Sequence[Record], new: Sequence[Record], tolerance: float = TOLERANCE) -> Comparison:
    """Pair up the speed cells of two runs. Raises StoreError when they have none in common."""
    before, after = _Run.of(old), _Run.of(new)
    common = [name for name in before.rows if name in after.rows]
    if not common:
        raise StoreError("the two runs measured no configuration in common; compare runs of one sweep")
    return Comparison(
        pairs=tuple(_pair(before, after, name, tolerance) for name in common),
        only_old=tuple(row for name, row in before.rows.items() if name not in after.rows),
        only_new=tuple(row for name, row in after.rows.items() if name not in before.rows),
    )


_Name = tuple[object, ...]
_Samples = Mapping[_Name, Sequence[float]]


@dataclass(frozen=True, slots=True)
class _Run:
    """A run's speed cells by configuration, and the samples behind them."""

    rows: Mapping[_Name, CellRow]
    decode_tok_s: _Samples
    ttft_s: _Samples

    @classmethod
    def of(cls, records: Sequence[Record]) -> "_Run":
        rates: dict[_Name, list[float]] = {}
        waits: dict[_Name, list[float]] = {}
        for trial in trial_rows(records):
            if trial.decode_tok_s is not None:
                rates.setdefault(_name(trial), []).append(trial.decode_tok_s)
            if trial.ttft_s is not None:
                waits.setdefault(_name(trial), []).append(trial.ttft_s)
        return cls({_name(row): row for row in cell_rows(records) if row.kind == "speed"}, rates, waits)


def _name(row: Identity) -> _Name:
    """Equal for equal work; the device's name is left out, so that a new machine can be compared with the old one."""
    what = (row.model_id, row.quantization, row.engine, row.device, row.cache_mode)
    return *what, row.context_tokens, row.batch_size, row.new_tokens


def _pair(before: _Run, after: _Run, name: _Name, tolerance: float) -> Pair:
    old, new = before.rows[name], after.rows[name]
    return Pair(
        old,
        new,
        _change(before.decode_tok_s.get(name), after.decode_tok_s.get(name), True, tolerance),
        _change(before.ttft_s.get(name), after.ttft_s.get(name), False, tolerance),
        tuple(dict.fromkeys(reason for row in (old, new) for reason in _forbidding(row))),
    )


def _change(
    old: Sequence[float] | None, new: Sequence[float] | None, higher_is_better: bool, tolerance: float
) -> Change | None:
    if not old or not new:
        return None
    low, high = bootstrap_ratio_ci(new, old)
    return Change(median(old), median(new), low, high, higher_is_better, tolerance)


def _forbidding(row: CellRow) -> list[str]:
    if row.status is not Status.OK:
        return []
    reasons = row.trust.distrust.split("+")
    return [reason for reason in reasons if reason in _NOT_COMPARABLE]


def _devices(rows: Iterable[CellRow]) -> tuple[str | None, ...]:
    return tuple(dict.fromkeys(row.device_name for row in rows if row.is_ok))
