"""The strip above a panel: one line for each curve that has failed points, a cross where each of them happened.

Why: a failed point has no value, and on the curves' own axes any place for it would read as one.

    draw_strip(figure, panel, failed_rows, at=(1, 1))
"""

import html
import math
from collections.abc import Sequence

import plotly.graph_objects as go

from farm.present import theme
from farm.present.figures.panels import Panel
from farm.rows import CellRow


def _strip_label(row: CellRow) -> str:
    return f"{theme.short_title_of(row.quantization)}, cache {row.cache_mode}"


def strip_labels(failed: Sequence[CellRow]) -> list[str]:
    """The lines of the strip, from top to bottom."""
    return list(dict.fromkeys(_strip_label(row) for row in failed))


def draw_strip(figure: go.Figure, panel: Panel, failed: Sequence[CellRow], at: tuple[int, int]) -> None:
    """Crosses over the contexts of failed points; an invisible strip where nothing failed."""
    _strip_axes(figure, panel, strip_labels(failed), at)
    if not failed:
        return
    figure.add_trace(
        go.Scatter(
            x=[row.context_tokens for row in failed],
            y=[_strip_label(row) for row in failed],
            mode="text",
            name="failed",
            showlegend=False,
            text=[theme.cross(row.quantization, row.status.value) for row in failed],
            textfont_size=12,
            hovertext=[html.escape(row.reason or row.status.value) for row in failed],
            hoverinfo="text",
        ),
        row=at[0],
        col=at[1],
    )


def _strip_axes(figure: go.Figure, panel: Panel, labels: Sequence[str], at: tuple[int, int]) -> None:
    context_axis(figure, panel, at)
    hidden = {"visible": False} if not labels else {}
    figure.update_xaxes(showticklabels=False, title_text="", tickcolor=theme.PAPER, row=at[0], col=at[1], **hidden)
    figure.update_yaxes(
        categoryorder="array",
        categoryarray=labels[::-1],
        range=[-0.6, len(labels) - 0.4],
        tickfont_size=11,
        tickcolor=theme.PAPER,
        row=at[0],
        col=at[1],
        **hidden,
    )


def context_axis(figure: go.Figure, panel: Panel, at: tuple[int, int]) -> None:
    """A logarithmic axis whose ticks are the contexts that were asked for."""
    contexts = panel.contexts
    figure.update_xaxes(
        type="log",
        tickvals=contexts,
        ticktext=[f"{context:,}" for context in contexts],
        minor={"ticks": "", "showgrid": False},
        range=[math.log10(contexts[0] / 1.35), math.log10(contexts[-1] * 1.35)],
        title_text="Context (prompt tokens)",
        row=at[0],
        col=at[1],
    )
