"""The roofline: how near each phase comes to what the device's memory and arithmetic allow.

The physics: performance is at most min(bandwidth * intensity, arithmetic rate). The distance of a point below the roof
is time that neither memory nor arithmetic explains: launches, a kernel that does not suit, a busy host.

    roofline(cell_rows(records), records).show()

Source: Williams, Waterman, Patterson, "Roofline", CACM 52 (2009). The roof is measured on the device, not its data
sheet's.
"""

from collections.abc import Sequence

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from farm.device_facts import DeviceLimits
from farm.present import theme
from farm.present.figures.curve_legend import legend_entry
from farm.present.figures.panels import devices, grid, in_catalog_order, place
from farm.present.figures.points import HOLLOW, is_trusted
from farm.present.figures.work import WorkPoint, work_points
from farm.records import Record
from farm.rows import CellRow
from farm.stats import median

TITLE = "Roofline: what was reached of what the device allows"
PHASES = {"decode": "circle", "prefill": "diamond"}
# Room around the points, as factors on logarithmic axes.
LEFT, RIGHT = 0.4, 2.5
_COORDINATES = "%{x:.3~g} FLOP/byte: %{y:.3~s}FLOP/s"


def roofline(rows: Sequence[CellRow], records: Sequence[Record] = ()) -> go.Figure:
    """FLOP/s against FLOP/byte, both logarithmic, one panel a model, engine and device."""
    points = work_points(records, rows)
    if not points:
        return theme.blank(TITLE, why_no_roof(rows))
    groups = _grouped(points)
    down, across = grid(groups)
    titles = [_title(group, groups) for group in groups]
    figure = make_subplots(down, across, subplot_titles=titles, vertical_spacing=0.2 / down)
    for index, group in enumerate(groups):
        _draw_panel(figure, group, place(index))
    _add_legend(figure, points)
    return theme.dress(figure, TITLE, _subtitle(points), 200 + 470 * down, 620 + 560 * across)


def why_no_roof(rows: Sequence[CellRow]) -> str:
    """The first reason that a row gives, or that there is no row."""
    reasons = (row.roofline.roofline_reason for row in rows if row.roofline.roofline_reason)
    return next(reasons, "no measured speed cell knows its model's shape and its device's limits")


def roof(limits: Sequence[DeviceLimits], intensities: Sequence[float]) -> tuple[list[float], list[float]]:
    """The roof's corner points over a range of intensities: up the bandwidth, along the arithmetic."""
    bandwidth = median([one.copy_bytes_per_s for one in limits])
    rate = median([one.gemm_flops for one in limits])
    first, last = LEFT * min(intensities), RIGHT * max(intensities)
    x = sorted({first, min(max(rate / bandwidth, first), last), last})
    return x, [min(bandwidth * intensity, rate) for intensity in x]


def _grouped(points: Sequence[WorkPoint]) -> list[list[WorkPoint]]:
    groups: dict[tuple[object, ...], list[WorkPoint]] = {}
    for point in points:
        groups.setdefault(point.row.subject, []).append(point)
    return list(groups.values())


def _draw_panel(figure: go.Figure, group: Sequence[WorkPoint], at: tuple[int, int]) -> None:
    for dtype in dict.fromkeys(point.limits.gemm_dtype for point in group):
        _draw_roof(figure, dtype, group, at)
    for name in in_catalog_order(point.row.quantization for point in group):
        for phase in PHASES:
            own = [point for point in group if (point.row.quantization, point.phase) == (name, phase)]
            _draw_points(figure, own, f"{theme.short_title_of(name)}, {phase}", at)
    axis = {"type": "log", "tickformat": "~s", "row": at[0], "col": at[1]}
    figure.update_xaxes(title_text="Arithmetic intensity (FLOP per byte)", **axis)
    figure.update_yaxes(title_text="Performance (FLOP/s)", **axis)


def _draw_roof(figure: go.Figure, dtype: str, group: Sequence[WorkPoint], at: tuple[int, int]) -> None:
    limits = [point.limits for point in group if point.limits.gemm_dtype == dtype]
    x, y = roof(limits, [point.intensity for point in group])
    figure.add_trace(
        go.Scatter(
            x=x,
            y=y,
            mode="lines+text",
            name=f"roof, {dtype}",
            showlegend=False,
            line={"color": theme.INK, "width": 2},
            text=[""] * (len(x) - 1) + [f"roof, {dtype}"],
            textposition="bottom left",
            hovertemplate=f"roof, {dtype}<br>{_COORDINATES}<extra></extra>",
        ),
        row=at[0],
        col=at[1],
    )


def _draw_points(figure: go.Figure, points: Sequence[WorkPoint], name: str, at: tuple[int, int]) -> None:
    if not points:
        return
    shape = PHASES[points[0].phase]
    figure.add_trace(
        go.Scatter(
            x=[point.intensity for point in points],
            y=[point.flops for point in points],
            mode="markers",
            name=name,
            showlegend=False,
            marker={
                "symbol": [shape + ("" if is_trusted(point.row) else "-open") for point in points],
                "size": 10,
                "color": theme.color_of(points[0].row.quantization),
                "line": {"color": theme.INK, "width": [0.6 if is_trusted(point.row) else 2.0 for point in points]},
            },
            customdata=[_task(point.row) for point in points],
            hovertemplate=f"<b>{name}</b><br>%{{customdata}}<br>{_COORDINATES}<extra></extra>",
        ),
        row=at[0],
        col=at[1],
    )


def _task(row: CellRow) -> str:
    return f"{row.context_tokens:,} tokens, batch {row.batch_size}, cache {row.cache_mode}"


def _add_legend(figure: go.Figure, points: Sequence[WorkPoint]) -> None:
    for name in in_catalog_order(point.row.quantization for point in points):
        legend_entry(figure, theme.title_of(name), "Precision", theme.color_of(name), "solid", "circle")
    for phase, shape in PHASES.items():
        legend_entry(figure, phase, "Phase", theme.INK, "solid", shape)


def _title(group: Sequence[WorkPoint], among: Sequence[Sequence[WorkPoint]]) -> str:
    row = group[0].row
    others = [other[0].row for other in among]
    engine = [row.engine] * (len({other.engine for other in others}) > 1)
    device = [row.device_name or row.device] * (len({other.device_name for other in others}) > 1)
    return ", ".join([row.model, *engine, *device])


def _subtitle(points: Sequence[WorkPoint]) -> str:
    words = [devices([point.row for point in points]), "roof: measured copy bandwidth and matrix product"]
    words += [HOLLOW] * any(not is_trusted(point.row) for point in points)
    return "; ".join(words)
