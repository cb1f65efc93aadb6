"""Speed against memory, with quality beside each point: where is the sweet spot?

Why only the longest context: that is where memory and speed hurt most, and one point a configuration can be read.
Large points are on the front (nothing beats them in every criterion at once), faint ones are beaten.

    pareto(cell_rows(records)).show()
"""

import math
from collections.abc import Sequence

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from farm.present import theme
from farm.present.answers import memory_of, speed_of
from farm.present.figures.curve_legend import legend_entry
from farm.present.figures.fronts import Front, fronts
from farm.present.figures.panels import devices, grid, in_catalog_order, place
from farm.present.figures.points import HOLLOW, is_trusted, symbol
from farm.rows import CellRow

TITLE = "Speed, memory and quality: the Pareto front"
GB = 1e9
WIDE = 8.0  # fastest over slowest: from here on a logarithmic axis
SIDES = ("top center", "bottom center")
MEASURES = {"peak_allocated": "Peak device memory (GB)", "weights_and_kv": "Weights and KV cache (GB)"}


def pareto(rows: Sequence[CellRow]) -> go.Figure:
    """One panel a front; up and to the left is better."""
    found = fronts(rows)
    if not found:
        return theme.blank(TITLE, "no cell with a cache has both a speed and a memory figure")
    down, across = grid(found)
    titles = [_title(front, found) for front in found]
    figure = make_subplots(down, across, subplot_titles=titles, vertical_spacing=0.2 / down)
    for index, front in enumerate(found):
        _draw_front(figure, front, place(index))
    for name in in_catalog_order(row.quantization for front in found for row in front.rows):
        color, shape = theme.color_of(name), theme.symbol_of(name)
        legend_entry(figure, theme.title_of(name), "Precision", color, "solid", shape)
    return theme.dress(figure, TITLE, _subtitle(found), 200 + 470 * down, 620 + 560 * across)


def _draw_front(figure: go.Figure, front: Front, at: tuple[int, int]) -> None:
    sides = _sides(front)
    for row in front.rows:
        _draw_point(figure, row, front, sides.get(row.key), at)
    figure.update_yaxes(**_speed_axis([speed_of(row) for row in front.rows]), row=at[0], col=at[1])
    figure.update_xaxes(
        title_text=MEASURES[front.measure],
        range=_room([memory_of(row) / GB for row in front.rows]),
        row=at[0],
        col=at[1],
    )


def _room(values: Sequence[float]) -> list[float]:
    """From zero, so that lengths compare, with space for the words beside the points."""
    return [0.0, 1.25 * max(values)]


def _speed_axis(speeds: Sequence[float]) -> dict[str, object]:
    """Logarithmic where the fastest engine would press the others together at the bottom."""
    title = "Decode tokens per second"
    if max(speeds) < WIDE * min(speeds):
        return {"title_text": title, "range": _room(speeds)}
    span = [math.log10(min(speeds) / 2), math.log10(2 * max(speeds))]
    return {"title_text": f"{title} (log scale)", "range": span, **theme.log_axis(speeds)}


def _sides(front: Front) -> dict[str, str]:
    """Where each row's name stands, by key, the front first. A name that would cover two others is left out."""
    sides: dict[str, str] = {}
    named: list[CellRow] = []
    for row in (*front.best, *(row for row in front.rows if row not in front.best)):
        near = [sides[other.key] for other in named if _is_near(row, other, front)]
        side = next((side for side in SIDES if side not in near), None)
        if side is not None and (row in front.best or not near):
            sides[row.key] = side
            named.append(row)
    return sides


def _is_near(row: CellRow, other: CellRow, front: Front) -> bool:
    """As far as a name reaches: a third of the width, and a tenth of the height of the panel."""
    speeds = [speed_of(one) for one in front.rows]
    is_beside = abs(memory_of(row) - memory_of(other)) < max(map(memory_of, front.rows)) * 0.3
    if max(speeds) < WIDE * min(speeds):
        return is_beside and abs(speed_of(row) - speed_of(other)) < max(speeds) * 0.08
    decades = math.log10(4 * max(speeds) / min(speeds))
    return is_beside and abs(math.log10(speed_of(row) / speed_of(other))) < 0.08 * decades


def _draw_point(figure: go.Figure, row: CellRow, front: Front, side: str | None, at: tuple[int, int]) -> None:
    name, is_best = label(row, front), row in front.best
    words = f"<b>{name}</b>{_quality(row)}" if is_best else name
    figure.add_trace(
        go.Scatter(
            x=[memory_of(row) / GB],
            y=[speed_of(row)],
            mode="markers+text",
            name=name,
            showlegend=False,
            text=[words if side else ""],
            textposition=side or SIDES[0],
            textfont={"size": 12 if is_best else 11, "color": theme.INK if is_best else theme.FAINT},
            cliponaxis=False,
            marker={
                "symbol": symbol(row),
                "size": 17 if is_best else 10,
                "color": theme.color_of(row.quantization),
                "opacity": 1.0 if is_best else 0.6,
                "line": {"width": 0 if is_trusted(row) else 2},
            },
            hovertemplate=f"<b>{name}</b><br>%{{x:.3g}} GB<br>%{{y:.4g}} tok/s<extra></extra>",
        ),
        row=at[0],
        col=at[1],
    )


def label(row: CellRow, front: Front) -> str:
    """The precision, and what else tells the row from the others of its front."""
    engine = [row.engine] * (len({other.engine for other in front.rows}) > 1)
    mode = [f"cache {row.cache_mode}"] * (len({other.cache_mode for other in front.rows}) > 1)
    return ", ".join([theme.short_title_of(row.quantization), *engine, *mode])


def _quality(row: CellRow) -> str:
    percent = row.quality.perplexity_delta_percent
    if percent is not None:
        return f"<br>PPL {percent:+.1f} %"
    return "" if row.quality.perplexity is None else f"<br>PPL {row.quality.perplexity:.2f}"


def _title(front: Front, among: Sequence[Front]) -> str:
    row = front.rows[0]
    several_devices = len({other.rows[0].device_name for other in among}) > 1
    device = [row.device_name or row.device] * several_devices
    return ", ".join([row.model, *device, f"batch {row.batch_size}", f"{front.context:,} tokens"])


def _subtitle(found: Sequence[Front]) -> str:
    rows = [row for front in found for row in front.rows]
    words = [devices(rows), "large: on the front", "up and left is better"]
    words += ["quality does not count: not every row has it"] * any(not front.with_quality for front in found)
    words += [HOLLOW] * any(not is_trusted(row) for row in rows)
    return "; ".join(words)
