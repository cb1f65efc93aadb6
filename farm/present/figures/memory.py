"""Device memory by part: weights, KV cache, and what activations and the rest add at the peak.

The physics: weights are constant and shrink with the bits, the KV cache grows with batch times context, activations
with the longest forward pass. Without a device allocator (the CPU) only the first two can be told apart.

    memory_footprint(cell_rows(records)).show()
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from farm.present import theme
from farm.present.figures.panels import Panel, devices, grid, in_catalog_order, place, shown_cache_mode, speed_panels
from farm.rows import CellRow

GB = 1e9
MOST_TOTALS = 24  # above as many bars the figures on top would cover each other
TITLE = "Memory footprint by context and precision"


@dataclass(frozen=True, slots=True)
class Part:
    """One layer of the stack: its name, how it is drawn, and its bytes in a row."""

    name: str
    strength: float
    pattern: str
    size: Callable[[CellRow], float | None]


def other_bytes(row: CellRow) -> float | None:
    """What the peak holds besides weights and KV cache: activations, workspaces, logits."""
    memory = row.memory
    if memory.peak_allocated_bytes is None or memory.weights_bytes is None:
        return None
    return max(0, memory.peak_allocated_bytes - memory.weights_bytes - kv_device_bytes(row))


def kv_device_bytes(row: CellRow) -> int:
    """What of the KV cache lies on the device: all of it, or what is not in host memory."""
    return (row.memory.kv_bytes or 0) - (row.memory.kv_host_bytes or 0)


PARTS = (
    Part("weights", 1.0, "", lambda row: row.memory.weights_bytes),
    Part("KV cache", 0.6, "/", lambda row: kv_device_bytes(row) if row.memory.kv_bytes is not None else None),
    Part("activations and other", 0.3, ".", other_bytes),
)


def memory_footprint(rows: Sequence[CellRow]) -> go.Figure:
    """Stacked bars in GB (1e9 bytes); a failed point is named at its place and has no bar."""
    mode = shown_cache_mode(row for row in rows if row.kind == "speed")
    shown = [row for row in rows if row.kind == "speed" and row.cache_mode == mode]
    panels = speed_panels(shown)
    if not any(row.memory.weights_bytes for row in shown):
        return theme.blank(TITLE, "no cell of this sweep recorded its memory")
    down, across = grid(panels)
    figure = make_subplots(down, across, subplot_titles=[panel.title for panel in panels], vertical_spacing=0.2 / down)
    for index, panel in enumerate(panels):
        _draw_panel(figure, panel, place(index))
    _add_legend(figure, shown)
    figure.update_layout(barmode="stack")
    return theme.dress(figure, _title(shown), _subtitle(shown, mode), 200 + 450 * down, 620 + 560 * across)


def positions(panel: Panel) -> dict[tuple[int, str], float]:
    """Where the bar of each context and precision stands: contexts one apart, bars side by side around them."""
    names = panel.quantizations
    width = 0.84 / len(names)
    return {
        (context, name): group + (order - (len(names) - 1) / 2) * width
        for group, context in enumerate(panel.contexts)
        for order, name in enumerate(names)
    }


def _draw_panel(figure: go.Figure, panel: Panel, at: tuple[int, int]) -> None:
    where = positions(panel)
    measured = [row for row in panel.rows if row.is_ok and row.memory.weights_bytes is not None]
    for part in PARTS:
        _draw_part(figure, part, measured, where, 0.76 / len(panel.quantizations), at)
    if len(measured) <= MOST_TOTALS:
        _draw_totals(figure, measured, where, at)
    for row in panel.rows:
        if not row.is_ok:
            _mark_failure(figure, row, where[_spot(row)], at)
    figure.update_xaxes(
        tickvals=list(range(len(panel.contexts))),
        ticktext=[f"{context:,}" for context in panel.contexts],
        range=[-0.6, len(panel.contexts) - 0.4],
        title_text="Context (prompt tokens)",
        showgrid=False,
        row=at[0],
        col=at[1],
    )
    figure.update_yaxes(title_text="Memory (GB)", rangemode="tozero", row=at[0], col=at[1])


def _spot(row: CellRow) -> tuple[int, str]:
    return row.context_tokens or 0, row.quantization


def _draw_part(
    figure: go.Figure,
    part: Part,
    rows: Sequence[CellRow],
    where: dict[tuple[int, str], float],
    width: float,
    at: tuple[int, int],
) -> None:
    present = [row for row in rows if part.size(row) is not None]
    colors = [theme.color_of(row.quantization) for row in present]
    figure.add_trace(
        go.Bar(
            x=[where[_spot(row)] for row in present],
            y=[(part.size(row) or 0) / GB for row in present],
            width=width,
            name=part.name,
            showlegend=False,
            marker={
                "color": [theme.tint(color, part.strength) for color in colors],
                "line": {"color": colors, "width": 1},
                "pattern": {"shape": part.pattern, "fgcolor": colors, "size": 6},
            },
            customdata=[[theme.short_title_of(row.quantization), row.context_tokens] for row in present],
            hovertemplate=(
                f"%{{customdata[0]}} at %{{customdata[1]}} tokens<br>{part.name}: %{{y:.3f}} GB<extra></extra>"
            ),
        ),
        row=at[0],
        col=at[1],
    )


def _draw_totals(
    figure: go.Figure, rows: Sequence[CellRow], where: dict[tuple[int, str], float], at: tuple[int, int]
) -> None:
    totals = [sum(part.size(row) or 0 for part in PARTS) / GB for row in rows]
    figure.add_trace(
        go.Scatter(
            x=[where[_spot(row)] for row in rows],
            y=totals,
            mode="text",
            text=[f"{total:.3g}" for total in totals],
            textposition="top center",
            textfont_size=11,
            name="total",
            showlegend=False,
            hoverinfo="skip",
        ),
        row=at[0],
        col=at[1],
    )


def _mark_failure(figure: go.Figure, row: CellRow, x: float, at: tuple[int, int]) -> None:
    figure.add_annotation(
        x=x,
        y=0,
        yanchor="bottom",
        text=theme.cross(row.quantization, row.status.value),
        textangle=-90,
        showarrow=False,
        font_size=13,
        row=at[0],
        col=at[1],
    )


def _add_legend(figure: go.Figure, rows: Sequence[CellRow]) -> None:
    for name in in_catalog_order(row.quantization for row in rows):
        _legend_entry(figure, theme.title_of(name), "Precision", theme.color_of(name), "")
    for part in PARTS:
        if any(part.size(row) is not None for row in rows):
            _legend_entry(figure, part.name, "Part", theme.tint(theme.FAINT, part.strength), part.pattern)


def _legend_entry(figure: go.Figure, name: str, group: str, color: str, pattern: str) -> None:
    marker = {"color": color, "pattern": {"shape": pattern, "fgcolor": theme.FAINT, "size": 6}}
    figure.add_trace(
        go.Bar(x=[None], y=[None], name=name, legendgroup=group, legendgrouptitle_text=group, marker=marker)
    )


def _title(rows: Sequence[CellRow]) -> str:
    if any(other_bytes(row) is not None for row in rows):
        return TITLE
    return f"{TITLE}: weights and KV cache only"


def _subtitle(rows: Sequence[CellRow], mode: str) -> str:
    reasons = dict.fromkeys(row.memory.memory_reason for row in rows if row.memory.memory_reason)
    return "; ".join([devices(rows), f"KV cache {mode}", *reasons])
