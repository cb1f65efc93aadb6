"""The picture to see first: decode speed from no cache to the fastest engine, under what the device's memory allows.

The physics: a token at batch 1 needs every weight once, so bytes over bandwidth bound it (the tick behind each bar). A
bar far from its tick is bound by something else, on a fast GPU by the host that launches kernels.

    decode_ladder(cell_rows(records)).show()
"""

from collections.abc import Sequence

import plotly.graph_objects as go

from farm.present import theme
from farm.present.figures.panels import devices
from farm.present.figures.points import HOLLOW, is_trusted
from farm.present.ladder import ladder
from farm.present.words import number
from farm.rows import CellRow
from farm.stats import Summary

TITLE = "Decode speed by engine and precision"
BAR_HEIGHT = 38
ROOM_FOR_WORDS = 1.28  # of the longest bar or tick: behind it stand the figures


def decode_ladder(rows: Sequence[CellRow]) -> go.Figure:
    """One bar a step; hollow where the row's verdict is not valid."""
    steps = ladder(rows)
    if not steps:
        return theme.blank(TITLE, "no speed cell of this sweep was measured")
    names = [f"{place}. {_name(row)}" for place, row in enumerate(steps, 1)]
    bars, limits = _bars(steps, names), _limits(steps, names)
    end = max([*bars.x, *(x for x in limits.x if x is not None)])
    figure = go.Figure([bars, limits, _words_beside(steps, names, 1.03 * end)])
    figure.update_xaxes(title_text="Decode tokens per second", range=[0, ROOM_FOR_WORDS * end])
    figure.update_yaxes(categoryorder="array", categoryarray=names[::-1], showgrid=False)
    theme.dress(figure, TITLE, _subtitle(steps), height=190 + BAR_HEIGHT * len(steps))
    return figure.update_layout(showlegend=False, bargap=0.3, margin={"r": 60, "t": 95})


def _subtitle(steps: Sequence[CellRow]) -> str:
    first = steps[0]
    tick = ["tick: physical limit"] if any(row.roofline.decode_limit_tok_s for row in steps) else []
    hollow = [] if all(map(is_trusted, steps)) else [HOLLOW]
    about = f"{devices(steps)}, {first.model}, batch {first.batch_size}"
    return "; ".join([about, "whiskers: 95 % interval of the median", *tick, *hollow])


def _name(row: CellRow) -> str:
    cache = "" if row.cache_mode == "on" else ", cache off"
    return f"{row.engine}, {theme.short_title_of(row.quantization)}{cache}, {row.context_tokens:,} tokens"


def _bars(steps: Sequence[CellRow], names: Sequence[str]) -> go.Bar:
    speeds = [row.decode_tok_s for row in steps if row.decode_tok_s]
    colors = [theme.color_of(row.quantization) for row in steps]
    fills = [color if is_trusted(row) else theme.PAPER for row, color in zip(steps, colors, strict=True)]
    return go.Bar(
        x=[speed.median for speed in speeds],
        y=list(names),
        orientation="h",
        name="decode",
        marker={"color": fills, "line": {"color": colors, "width": 2}},
        error_x=_whiskers(speeds),
        hovertext=[f"{name}: {_words(row)}" for name, row in zip(names, steps, strict=True)],
        hoverinfo="text",
    )


def _words_beside(steps: Sequence[CellRow], names: Sequence[str], x: float) -> go.Scatter:
    """In a column of their own: beside the bars they would cross ticks and whiskers."""
    return go.Scatter(
        x=[x] * len(steps),
        y=list(names),
        mode="text",
        name="figures",
        text=[_words(row) for row in steps],
        textposition="middle right",
        hoverinfo="skip",
    )


def _words(row: CellRow) -> str:
    speed, peak = row.decode_tok_s, row.memory.peak_allocated_bytes
    memory = "" if peak is None else f", {number(peak / 1e9)} GB"
    return f"{number(speed.median) if speed else '–'} tok/s{memory}"


def _whiskers(speeds: Sequence[Summary]) -> dict[str, object]:
    up = [0.0 if speed.ci_high is None else speed.ci_high - speed.median for speed in speeds]
    down = [0.0 if speed.ci_low is None else speed.median - speed.ci_low for speed in speeds]
    return {"type": "data", "symmetric": False, "array": up, "arrayminus": down, "color": theme.INK, "thickness": 1.2}


def _limits(steps: Sequence[CellRow], names: Sequence[str]) -> go.Scatter:
    """A tick a bar where the device's bandwidth is known."""
    return go.Scatter(
        x=[row.roofline.decode_limit_tok_s for row in steps],
        y=list(names),
        mode="markers",
        name="physical limit",
        marker={"symbol": "line-ns", "size": 20, "line": {"color": theme.INK, "width": 2}},
        hovertemplate="%{x:.0f} tok/s<extra></extra>",
    )
