"""What a curve is made of: the points that rows give, each with its interval and whether it may be trusted.

Why hollow markers: a noisy or throttled row was measured, so hiding it would hide evidence; filled, it would be read
like the others. A row that is not ok has no point at all.

    points(panel.rows, Curve("decode", lambda row: row.decode_tok_s, cache_mode="on"), "nf4")
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from farm.present import theme
from farm.rows import CellRow
from farm.stats import Summary
from farm.verdict import VALID

HOLLOW = "hollow: verdict not valid"


@dataclass(frozen=True, slots=True)
class Curve:
    """One kind of line: its name, what it reads off a row, which rows it is of, its dash, and the limit above it.

    `cache_mode` or `engine` None: rows of any. `limit`: what the device allows at best, in the unit of `pick`.
    """

    name: str
    pick: Callable[[CellRow], Summary | float | None]
    cache_mode: str | None = None
    engine: str | None = None
    dash: str = "solid"
    limit: Callable[[CellRow], float | None] | None = None

    def shows(self, row: CellRow) -> bool:
        return self.cache_mode in (None, row.cache_mode) and self.engine in (None, row.engine)


@dataclass(frozen=True, slots=True)
class Point:
    """A measured point; the bounds are None where one sample gave no interval."""

    context: int
    value: float
    low: float | None
    high: float | None
    row: CellRow


def points(rows: Iterable[CellRow], curve: Curve, quantization: str) -> list[Point]:
    """The measured points of one line, by context."""
    own = [row for row in rows if row.quantization == quantization and curve.shows(row) and row.is_ok]
    found = [_point(row, curve.pick(row)) for row in own if row.context_tokens]
    return sorted((point for point in found if point is not None), key=lambda point: point.context)


def limits(rows: Iterable[CellRow], curve: Curve, quantization: str) -> list[tuple[int, float]]:
    """The physical limit along one line, by context; empty where the device's roof is not known."""
    if curve.limit is None:
        return []
    own = [row for row in rows if row.quantization == quantization and curve.shows(row) and row.is_ok]
    found = [(row.context_tokens, curve.limit(row)) for row in own if row.context_tokens]
    return sorted((context, value) for context, value in found if value is not None)


def is_trusted(row: CellRow) -> bool:
    """False where the row's verdict names a reason of distrust; a note like `launch_bound` leaves it valid."""
    return _is_valid(row.trust.verdict)


def mark_of(verdict: str | None) -> str:
    """What stands before a figure that its verdict, or a ratio's, makes doubtful: hollow, as markers are."""
    return "" if _is_valid(verdict) else "○ "


def _is_valid(verdict: str | None) -> bool:
    return verdict is None or verdict.startswith(VALID)


def symbol(row: CellRow) -> str:
    """The precision's marker, hollow when the row is not to be trusted."""
    return theme.symbol_of(row.quantization) + ("" if is_trusted(row) else "-open")


def _point(row: CellRow, picked: Summary | float | None) -> Point | None:
    if picked is None or row.context_tokens is None:
        return None
    if isinstance(picked, Summary):
        return Point(row.context_tokens, picked.median, picked.ci_low, picked.ci_high, row)
    return Point(row.context_tokens, picked, None, None, row)
