"""Every figure of a report, by where it goes: rows in, plotly figures out, nothing written.

    for drawing in all_drawings(cell_rows(records)): drawing.figure.show()

`farm.present.figure_files` writes them. Two figures need the records behind the rows (`records`), one the run's log
(`events`); without them they say so.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import plotly.graph_objects as go

from farm.present.figures.cache_gain import cache_gain
from farm.present.figures.energy import energy_per_token
from farm.present.figures.gantt import gantt
from farm.present.figures.gantt_bars import LoggedEvent
from farm.present.figures.latency import latency_vs_context
from farm.present.figures.memory import memory_footprint
from farm.present.figures.pareto import pareto
from farm.present.figures.perplexity import ppl_degradation
from farm.present.figures.phases import prefill_vs_decode
from farm.present.figures.predicted_memory import predicted_memory
from farm.present.figures.roofline import roofline
from farm.present.figures.summary_table import summary_table
from farm.present.figures.throughput import engines_vs_length, tokens_s_vs_length
from farm.present.translate import translated
from farm.present.words import DEFAULT
from farm.records import Record
from farm.rows import CellRow


@dataclass(frozen=True, slots=True)
class Drawing:
    """A figure, and the folder and name (without ending) of its files."""

    folder: str
    name: str
    figure: go.Figure


def all_drawings(
    rows: Sequence[CellRow],
    records: Sequence[Record] = (),
    events: Sequence[LoggedEvent] = (),
    language: str = DEFAULT,
) -> tuple[Drawing, ...]:
    """All figures, also those with nothing to draw: they say why."""
    drawn = _of_rows(rows) + _of_records(rows, records, events)
    return tuple(replace(drawing, figure=translated(drawing.figure, language)) for drawing in drawn)


def _of_rows(rows: Sequence[CellRow]) -> tuple[Drawing, ...]:
    return (
        Drawing("benchmarks", "summary_table", summary_table(rows)),
        Drawing("benchmarks", "latency_vs_context", latency_vs_context(rows)),
        Drawing("benchmarks", "memory_footprint", memory_footprint(rows)),
        Drawing("figures", "prefill_vs_decode", prefill_vs_decode(rows)),
        Drawing("figures", "tokens_s_vs_length", tokens_s_vs_length(rows)),
        Drawing("figures", "ppl_degradation", ppl_degradation(rows)),
        Drawing("figures", "kv_cache_gain", cache_gain(rows)),
        Drawing("figures", "pareto", pareto(rows)),
        Drawing("figures", "engines", engines_vs_length(rows)),
        Drawing("figures", "energy_per_token", energy_per_token(rows)),
    )


def _of_records(
    rows: Sequence[CellRow], records: Sequence[Record], events: Sequence[LoggedEvent]
) -> tuple[Drawing, ...]:
    return (
        Drawing("figures", "roofline", roofline(rows, records)),
        Drawing("figures", "predicted_memory", predicted_memory(rows, records)),
        Drawing("figures", "sweep_gantt", gantt(events, records)),
    )
