"""Figures with a curve a precision against the context: the frame that latency, phases, energy and others share.

Why a strip on top: a point that failed has no value, and drawing it at 0 would lie. Each failed point is a cross in
the strip, above the context where it happened, named by its status.

    curve_figure(rows, Look("Decode latency", "ms", "ms", (Curve("cache on", pick, cache_mode="on"),), log=True))
"""

from collections.abc import Sequence
from dataclasses import dataclass

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from farm.present import theme
from farm.present.figures.curve_legend import add_legend
from farm.present.figures.panels import Panel, curve_panels, devices, grid, place, speed_panels
from farm.present.figures.points import HOLLOW, Curve, Point, is_trusted, limits, points, symbol
from farm.present.figures.strip import context_axis, draw_strip, strip_labels
from farm.rows import CellRow

PANEL_HEIGHT = 470
STRIP_LINE = 30
# Room between two panels for the axis title of one and the heading of the next, in pixels.
WORDS = 100


@dataclass(frozen=True, slots=True)
class Look:
    """What tells one curve figure from another. `scale` turns the row's unit into the axis' unit.

    `reference` is a level drawn across every panel; `join_engines` puts all engines of a model on one pair of axes;
    `with_strip` marks failed cells above the panel.
    """

    title: str
    y_title: str
    unit: str
    curves: tuple[Curve, ...]
    scale: float = 1.0
    log: bool = False
    nothing: str = "no speed cell of this sweep was measured"
    reference: float | None = None
    join_engines: bool = False
    with_strip: bool = True
    with_bars: bool = True


def curve_figure(rows: Sequence[CellRow], look: Look) -> go.Figure:
    """The whole figure; a note instead of axes when there is nothing to draw."""
    panels = curve_panels(rows, look.join_engines)
    if not panels:
        return theme.blank(look.title, look.nothing)
    strips = [_failed(panel, look) for panel in panels]
    lines = max(len(strip_labels(failed)) for failed in strips)
    figure = _frame(panels, lines)
    for index, panel in enumerate(panels):
        _draw_panel(figure, panel, look, index, strips[index], lines)
    drawn = [point for panel in panels for point in _points(panel, look)]
    add_legend(figure, panels, look.curves, any(_limits(panel, look) for panel in panels))
    is_whole = len(panels) == len(speed_panels(rows, look.join_engines))
    return _dress(figure, look, panels, lines, drawn, is_whole)


def _points(panel: Panel, look: Look) -> list[Point]:
    return [point for curve in look.curves for name in panel.quantizations for point in points(panel.rows, curve, name)]


def _limits(panel: Panel, look: Look) -> list[float]:
    names = panel.quantizations
    return [value for curve in look.curves for name in names for _, value in limits(panel.rows, curve, name)]


def _failed(panel: Panel, look: Look) -> list[CellRow]:
    if not look.with_strip:
        return []
    return [row for row in panel.rows if not row.is_ok and any(curve.shows(row) for curve in look.curves)]


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
    at = (_main_row(row, lines), column)
    for curve in look.curves:
        for quantization in panel.quantizations:
            _draw_limit(figure, limits(panel.rows, curve, quantization), look, quantization, at)
            _draw_line(figure, points(panel.rows, curve, quantization), look, curve, at)
    if not _points(panel, look):
        _say_nothing(figure, at)
    if look.reference is not None:
        figure.add_hline(
            y=look.reference, line={"color": theme.INK, "dash": "dash", "width": 1.5}, row=at[0], col=at[1]
        )
    context_axis(figure, panel, at)
    figure.update_yaxes(title_text=look.y_title, row=at[0], col=at[1], **_y_axis(panel, look))
    if lines:
        draw_strip(figure, panel, failed, (at[0] - 1, column))


def _y_axis(panel: Panel, look: Look) -> dict[str, object]:
    levels = [point.value for point in _points(panel, look)] + _limits(panel, look)
    # A limit ten times above what was measured would press the curves flat: then both need a logarithmic axis.
    if not (look.log or _limits(panel, look)):
        return {"rangemode": "tozero"}
    return theme.log_axis(levels)


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


def _draw_line(figure: go.Figure, measured: Sequence[Point], look: Look, curve: Curve, at: tuple[int, int]) -> None:
    if not measured:
        return
    quantization = measured[0].row.quantization
    color = theme.color_of(quantization)
    name = f"{theme.short_title_of(quantization)}, {curve.name}"
    figure.add_trace(
        go.Scatter(
            x=[point.context for point in measured],
            y=[point.value * look.scale for point in measured],
            error_y=_error_bars(measured, look.scale, color),
            mode="lines+markers",
            name=name,
            legendgroup=quantization,
            showlegend=False,
            line={"color": color, "dash": curve.dash, "width": 2.5},
            marker={
                "symbol": [symbol(point.row) for point in measured],
                "size": 9,
                "color": color,
                "line": {"width": [0 if is_trusted(point.row) else 2 for point in measured]},
            },
            customdata=["" if is_trusted(point.row) else f"<br>{point.row.trust.verdict}" for point in measured],
            hovertemplate=f"<b>{name}</b><br>%{{x}} tokens: %{{y:.4~g}} {look.unit}%{{customdata}}<extra></extra>",
        ),
        row=at[0],
        col=at[1],
    )


def _draw_limit(
    figure: go.Figure, limit: Sequence[tuple[int, float]], look: Look, quantization: str, at: tuple[int, int]
) -> None:
    """A thin line without markers: nobody measured it."""
    if not limit:
        return
    name = f"{theme.short_title_of(quantization)}, physical limit"
    figure.add_trace(
        go.Scatter(
            x=[context for context, _ in limit],
            y=[value * look.scale for _, value in limit],
            mode="lines" if len(limit) > 1 else "markers",
            name=name,
            legendgroup=quantization,
            showlegend=False,
            line={"color": theme.color_of(quantization), "dash": "2px 4px", "width": 1.5},
            marker={"symbol": "line-ew-open", "size": 14, "color": theme.color_of(quantization)},
            hovertemplate=f"<b>{name}</b><br>%{{x}} tokens: %{{y:.4~g}} {look.unit}<extra></extra>",
        ),
        row=at[0],
        col=at[1],
    )


def _error_bars(measured: Sequence[Point], scale: float, color: str) -> dict[str, object]:
    """The 95 % interval of the median; nothing where one sample gave none."""
    above = [None if p.high is None else (p.high - p.value) * scale for p in measured]
    below = [None if p.low is None else (p.value - p.low) * scale for p in measured]
    return {"type": "data", "array": above, "arrayminus": below, "color": color, "thickness": 1.4, "width": 5}


def _dress(
    figure: go.Figure, look: Look, panels: Sequence[Panel], lines: int, drawn: Sequence[Point], is_whole: bool
) -> go.Figure:
    down, across = grid(panels)
    words = [devices([row for panel in panels for row in panel.rows])]
    words += ["bars: 95 % interval of the median"] * look.with_bars
    words += ["crosses on top: points that failed"] * bool(lines)
    words += [HOLLOW] * any(not is_trusted(point.row) for point in drawn)
    words += ["not drawn: what was measured at one context only"] * (not is_whole)
    height = 200 + (PANEL_HEIGHT + STRIP_LINE * lines) * down
    return theme.dress(figure, look.title, "; ".join(words), height=height, width=620 + 560 * across)
