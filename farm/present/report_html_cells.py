"""The filterable table: every cell, one line, each value as people read it and as a script sorts it.

Why both: '2,048' and '–' do not sort; the number beside the text does.

    cell_lines(rows, "en")[0].values[7]    # Value(text='29.7', sort='29.66...')
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from farm.present.figures.points import is_trusted, mark_of
from farm.present.theme import color_of, short_title_of
from farm.present.words import number, numbers_in
from farm.rows import CellRow
from farm.stats import Summary, scaled_median

EMPTY = "–"


@dataclass(frozen=True, slots=True)
class Value:
    """One table cell; `sort` is a number for the script, empty where the text itself sorts."""

    text: str
    sort: str = ""


@dataclass(frozen=True, slots=True)
class CellLine:
    """One row of the table. `state` is `valid`, `suspect` or `failed`, for filter and colour."""

    key: str
    color: str
    status: str
    state: str
    values: tuple[Value, ...]


def cell_lines(rows: Iterable[CellRow], language: str) -> tuple[CellLine, ...]:
    """All rows in their order."""
    return tuple(_line(row, language) for row in rows)


def _line(row: CellRow, language: str) -> CellLine:
    state = "failed" if not row.is_ok else "valid" if is_trusted(row) else "suspect"
    measured = _measured(row) if row.is_ok else [Value(EMPTY)] * 10
    spoken = [Value(numbers_in(language, value.text), value.sort) for value in (*_identity(row), *measured)]
    ends = (Value(row.status.value), Value(row.trust.verdict or EMPTY if row.is_ok else row.reason or EMPTY))
    return CellLine(row.key, color_of(row.quantization), row.status.value, state, (*spoken, *ends))


def _identity(row: CellRow) -> Sequence[Value]:
    return (
        Value(row.model),
        Value(short_title_of(row.quantization)),
        Value(row.engine),
        Value(row.device),
        Value(row.cache_mode or row.protocol or EMPTY),
        _number(row.context_tokens),
        _number(row.batch_size),
    )


def _measured(row: CellRow) -> list[Value]:
    peak, times = row.memory.peak_allocated_bytes, row.roofline.decode_times_limit
    return [
        _number(scaled_median(row.decode_tok_s)),
        _interval(row.decode_tok_s),
        _number(scaled_median(row.ttft_s, 1000)),
        _number(scaled_median(row.prefill_s, 1000)),
        _number(None if peak is None else peak / 1e9),
        _number(row.quality.perplexity, "{:.3f}"),
        _number(row.quality.perplexity_delta_percent, "{:+.2f}"),
        _number(row.speedup_vs_baseline, mark_of(row.speedup_verdict) + "{:.2f}×"),
        _number(None if times is None else 1 / times, "{:.0%}"),
        _number(row.energy.j_per_generated_token),
    ]


def _number(value: float | None, form: str = "") -> Value:
    if value is None:
        return Value(EMPTY)
    return Value(form.format(value) if form else number(value), repr(float(value)))


def _interval(summary: Summary | None) -> Value:
    if summary is None or summary.ci_low is None or summary.ci_high is None:
        return Value(EMPTY)
    width = summary.ci_high - summary.ci_low
    return Value(f"{number(summary.ci_low)}–{number(summary.ci_high)}", repr(float(width)))
