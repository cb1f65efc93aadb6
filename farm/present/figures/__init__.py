"""Every figure of a report, by where it goes: rows in, plotly figures out, nothing written.

    for drawing in all_drawings(cell_rows(records)): drawing.figure.show()

`farm.present.figure_files` writes them. Two figures need the records behind the rows (`records`), one the run's log
(`events`); without them they say so.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import plotly.graph_objects as go

from farm.present.figures.cache_gain import cache_gain
from farm.present.figures.decode_ladder import decode_ladder
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
    return tuple(one_drawing(name, rows, records, events, language) for name in FOLDERS)


def one_drawing(
    name: str,
    rows: Sequence[CellRow],
    records: Sequence[Record] = (),
    events: Sequence[LoggedEvent] = (),
    language: str = DEFAULT,
) -> Drawing:
    """The figure of that name, one of `FOLDERS`."""
    figure = _OF_ROWS[name](rows) if name in _OF_ROWS else _of_records(name, rows, records, events)
    return Drawing(FOLDERS[name], name, translated(figure, language))


_OF_ROWS: dict[str, Callable[[Sequence[CellRow]], go.Figure]] = {
    "summary_table": summary_table,
    "decode_ladder": decode_ladder,
    "latency_vs_context": latency_vs_context,
    "memory_footprint": memory_footprint,
    "prefill_vs_decode": prefill_vs_decode,
    "tokens_s_vs_length": tokens_s_vs_length,
    "ppl_degradation": ppl_degradation,
    "kv_cache_gain": cache_gain,
    "pareto": pareto,
    "engines": engines_vs_length,
    "energy_per_token": energy_per_token,
}
# Every figure in the order of the report, and the folder of its files.
FOLDERS = {
    name: "benchmarks" if name in ("summary_table", "latency_vs_context", "memory_footprint") else "figures"
    for name in (*_OF_ROWS, "roofline", "predicted_memory", "sweep_gantt")
}


def _of_records(
    name: str, rows: Sequence[CellRow], records: Sequence[Record], events: Sequence[LoggedEvent]
) -> go.Figure:
    if name == "sweep_gantt":
        return gantt(events, records)
    return {"roofline": roofline, "predicted_memory": predicted_memory}[name](rows, records)
