"""Every figure of a report, by where it goes: rows in, plotly figures out, nothing written.

    for drawing in all_drawings(cell_rows(records)): drawing.figure.show()

`farm.present.figure_files` writes them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import plotly.graph_objects as go

from farm.present.figures.latency import latency_vs_context
from farm.present.figures.memory import memory_footprint
from farm.present.figures.perplexity import ppl_degradation
from farm.present.figures.phases import prefill_vs_decode
from farm.present.figures.summary_table import summary_table
from farm.present.figures.throughput import tokens_s_vs_length
from farm.rows import CellRow


@dataclass(frozen=True, slots=True)
class Drawing:
    """A figure, and the folder and name (without ending) of its files."""

    folder: str
    name: str
    figure: go.Figure


def all_drawings(rows: Sequence[CellRow]) -> tuple[Drawing, ...]:
    """All figures, also those with nothing to draw: they say why."""
    return (
        Drawing("benchmarks", "summary_table", summary_table(rows)),
        Drawing("benchmarks", "latency_vs_context", latency_vs_context(rows)),
        Drawing("benchmarks", "memory_footprint", memory_footprint(rows)),
        Drawing("figures", "prefill_vs_decode", prefill_vs_decode(rows)),
        Drawing("figures", "tokens_s_vs_length", tokens_s_vs_length(rows)),
        Drawing("figures", "ppl_degradation", ppl_degradation(rows)),
    )
