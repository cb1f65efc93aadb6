"""Figures with a curve a precision against the context: the frame that latency, phases and throughput share.

Why a strip on top: a point that failed has no value, and drawing it at 0 would lie. Each failed point is a cross in
the strip, above the context where it happened, named by its status.

    curve_figure(rows, Look("Decode latency", "ms", (Curve("cache on", "on", "solid", pick_ms),), log=True))
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from farm.present import theme
from farm.present.figures.panels import Panel, devices, grid, in_catalog_order, place, speed_panels
from farm.present.figures.strip import context_axis, draw_strip, strip_labels
from farm.rows import CellRow
from farm.stats import Summary

PANEL_HEIGHT = 470
STRIP_LINE = 30
# Room between two panels for the axis title of one and the heading of the next, in pixels.
WORDS = 100


@dataclass(frozen=True, slots=True)
class Curve:
    """One kind of line: its name in the legend, the cache mode it shows, its dash, and what it reads off a row."""

    name: str
    cache_mode: str
    dash: str
    pick: Callable[[CellRow], Summary | None]


@dataclass(frozen=True, slots=True)
class Look:
    """What tells one curve figure from another. `scale` turns the row's unit into the axis' unit."""

    title: str
    y_title: str
    unit: str
    curves: tuple[Curve, ...]
    scale: float = 1.0
    log: bool = False
    nothing: str = "no speed cell of this sweep was measured"


def curve_figure(rows: Sequence[CellRow], look: Look) -> go.Figure:
    """The whole figure; a note instead of axes when there is nothing to draw."""
    panels = speed_panels(rows)
    if not panels:
        return theme.blank(look.title, look.nothing)
    strips = [_failed(panel, look) for panel in panels]
    lines = max(len(strip_labels(failed)) for failed in strips)
    figure = _frame(panels, lines)
    for index, panel in enumerate(panels):
        _draw_panel(figure, panel, look, index, strips[index], lines)
    _add_legend(figure, rows, look)
    return _dress(figure, rows, look, panels, lines)


def points(panel: Panel, curve: Curve, quantization: str) -> list[tuple[int, Summary]]:
    """The measured points of one line, by context."""
    found = [
        (row.context_tokens, curve.pick(row))
        for row in panel.rows
        if (row.quantization, row.cache_mode) == (quantization, curve.cache_mode) and row.is_ok and row.context_tokens
    ]
    return sorted((context, summary) for context, summary in found if summary is not None)


def _failed(panel: Panel, look: Look) -> list[CellRow]:
    modes = {curve.cache_mode for curve in look.curves}
    return [row for row in panel.rows if not row.is_ok and row.cache_mode in modes]


def _frame(panels: Sequence[Panel], lines: int) -> go.Figure:
    """Axes for every panel; below a strip of failures, and above a gap for the words, when any panel has failures."""
    down, across = grid(panels)
    titles = [panel.title for panel in panels] + [""] * (down * across - len(panels))
    if not lines:
        return make_subplots(down, across, subplot_titles=titles, vertical_spacing=WORDS / (PANEL_HEIGHT * down))
    axes: list[object] = [{}] * across
    gap: list[object] = [None] * across
    per_row = [titles[start * across : (start + 1) * across] + [""] * across for start in range(down)]
    return make_subplots(
        3 * down - 1,
        across,
        specs=([axes, axes, gap] * down)[:-1],
        subplot_titles=[title for row in per_row for title in row],
        row_heights=([STRIP_LINE * lines, PANEL_HEIGHT, WORDS / 2] * down)[:-1],
        vertical_spacing=0.05 / down,
    )


def _main_row(row: int, lines: int) -> int:
    """Which row of subplots holds the axes of a row of panels: strips stand above, gaps between."""
    return 3 * row - 1 if lines else row


def _draw_panel(figure: go.Figure, panel: Panel, look: Look, index: int, failed: Sequence[CellRow], lines: int) -> None:
    row, column = place(index)
    main = _main_row(row, lines)
    for curve in look.curves:
        for quantization in panel.quantizations:
            _draw_line(figure, panel, look, curve, quantization, (main, column))
    if not _drawn(panel, look):
        _say_nothing(figure, (main, column))
    context_axis(figure, panel, (main, column))
    figure.update_yaxes(title_text=look.y_title, row=main, col=column, **_y_axis(panel, look))
    if lines:
        draw_strip(figure, panel, failed, (main - 1, column))


def _y_axis(panel: Panel, look: Look) -> dict[str, object]:
    if not look.log:
        return {"rangemode": "tozero"}
    drawn = _drawn(panel, look)
    # plotly's words: D1 labels every digit of a decade, D2 only 1, 2 and 5.
    is_short = bool(drawn) and max(drawn) < 10 * min(drawn)
    return {"type": "log", "dtick": "D1" if is_short else "D2", "tickformat": "~g"}


def _drawn(panel: Panel, look: Look) -> list[float]:
    return [s.median for curve in look.curves for name in panel.quantizations for _, s in points(panel, curve, name)]


def _say_nothing(figure: go.Figure, at: tuple[int, int]) -> None:
    # Without a trace plotly draws no axes at all; the note is pinned to the panel by an invisible point.
    figure.add_trace(go.Scatter(x=[None], y=[None], showlegend=False), row=at[0], col=at[1])
    figure.add_annotation(
        text="nothing was measured here",
        x=0.5,
        y=0.5,
        xref="x domain",
        yref="y domain",
        showarrow=False,
        font_size=16,
        row=at[0],
        col=at[1],
    )


def _draw_line(
    figure: go.Figure, panel: Panel, look: Look, curve: Curve, quantization: str, at: tuple[int, int]
) -> None:
    measured = points(panel, curve, quantization)
    if not measured:
        return
    color = theme.color_of(quantization)
    name = f"{theme.short_title_of(quantization)}, {curve.name}"
    figure.add_trace(
        go.Scatter(
            x=[context for context, _ in measured],
            y=[summary.median * look.scale for _, summary in measured],
            error_y=_error_bars([summary for _, summary in measured], look.scale, color),
            mode="lines+markers",
            name=name,
            legendgroup=quantization,
            showlegend=False,
            line={"color": color, "dash": curve.dash, "width": 2.5},
            marker={"symbol": theme.symbol_of(quantization), "size": 9, "color": color},
            hovertemplate=f"<b>{name}</b><br>%{{x}} tokens: %{{y:.4~g}} {look.unit}<extra></extra>",
        ),
        row=at[0],
        col=at[1],
    )


def _error_bars(summaries: Sequence[Summary], scale: float, color: str) -> dict[str, object]:
    """The 95 % interval of the median; nothing where one sample gave none."""
    above = [None if s.ci_high is None else (s.ci_high - s.median) * scale for s in summaries]
    below = [None if s.ci_low is None else (s.median - s.ci_low) * scale for s in summaries]
    return {"type": "data", "array": above, "arrayminus": below, "color": color, "thickness": 1.4, "width": 5}


def _add_legend(figure: go.Figure, rows: Sequence[CellRow], look: Look) -> None:
    """One entry a precision and one a dash: every combination would be twice as long and say no more."""
    for quantization in in_catalog_order(row.quantization for row in rows if row.kind == "speed"):
        color, symbol = theme.color_of(quantization), theme.symbol_of(quantization)
        _legend_entry(figure, theme.title_of(quantization), "Precision", color, "solid", symbol)
    for curve in look.curves if len(look.curves) > 1 else ():
        _legend_entry(figure, curve.name, "Line", theme.INK, curve.dash, None)


def _legend_entry(figure: go.Figure, name: str, group: str, color: str, dash: str, symbol: str | None) -> None:
    figure.add_trace(
        go.Scatter(
            x=[None],
            y=[None],
            mode="lines+markers" if symbol else "lines",
            name=name,
            legendgroup=group,
            legendgrouptitle_text=group,
            line={"color": color, "dash": dash, "width": 2.5},
            marker={"symbol": symbol, "size": 9} if symbol else None,
        )
    )


def _dress(figure: go.Figure, rows: Sequence[CellRow], look: Look, panels: Sequence[Panel], lines: int) -> go.Figure:
    down, across = grid(panels)
    bars = "bars: 95 % interval of the median"
    crosses = "; crosses on top: points that failed" if lines else ""
    subtitle = f"{devices(rows)}; {bars}{crosses}"
    return theme.dress(
        figure, look.title, subtitle, height=200 + (PANEL_HEIGHT + STRIP_LINE * lines) * down, width=620 + 560 * across
    )
