"""Figures in words: what a screen reader says, and what stands in the place of a picture that did not load.

Why from the figure and not from the rows: the words then tell exactly what is drawn, for every figure alike.

    alt_text(latency_vs_context(rows))
    # 'Decode latency of one token, ... FP16, cache on: 31 at 128 to 33.7 at 2048. ...'
"""

import html
import re
from collections.abc import Iterable, Sequence
from typing import Any

import plotly.graph_objects as go

MOST_LINES = 16
# Totals repeat what the parts say; a figure's failures are told by the table of failures.
UNSPOKEN = frozenset(("total", "failed"))


def title_of(figure: go.Figure) -> str:
    """The figure's title without its subtitle."""
    return plain((figure.layout.title.text or "").split("<br>")[0])


def subtitle_of(figure: go.Figure) -> str:
    """The small print under the title."""
    return plain((figure.layout.title.text or "").partition("<br>")[2])


def alt_text(figure: go.Figure) -> str:
    """Title, small print, axes, and each line's first and last value; of a figure with nothing to draw its reason."""
    lines = [words for trace in figure.data if (words := _trace_words(figure, trace))]
    hidden = [f"… (+{len(lines) - MOST_LINES})"] if len(lines) > MOST_LINES else []
    axes = [title for title in (_axis(figure.layout.xaxis), _axis(figure.layout.yaxis)) if title]
    reason = [] if figure.data else [plain(note.text) for note in figure.layout.annotations]
    parts = [title_of(figure), subtitle_of(figure), " / ".join(axes), *reason, *lines[:MOST_LINES], *hidden]
    return ". ".join(part for part in parts if part)


def plain(text: str) -> str:
    """Without plotly's bit of HTML."""
    return html.unescape(re.sub(r"<[^>]+>", " ", text)).strip().replace("  ", " ")


def _axis(axis: Any) -> str:
    return plain(axis.title.text or "")


def _trace_words(figure: go.Figure, trace: Any) -> str:
    """`NF4, decode: 23.1 (128) … 21.1 (2,048)`; a table by its lines; empty for a legend entry."""
    if isinstance(trace, go.Table):
        lines = zip(*trace.cells["values"], strict=True)
        return ". ".join(", ".join(plain(str(item)) for item in line) for line in lines)
    if trace.name in UNSPOKEN:
        return ""
    if isinstance(trace, go.Bar) and trace.orientation == "h":
        return "; ".join(plain(text) for text in _list(trace.hovertext))
    places = _places(figure, trace)
    drawn = [(x, y) for x, y in zip(places, _list(trace.y), strict=False) if x and _is_number(y)]
    if not drawn:
        return ""
    ends = drawn if isinstance(trace, go.Bar) or len(drawn) == 1 else [drawn[0], drawn[-1]]
    name = f"{plain(trace.name)}: " if trace.name else ""
    return name + (", " if ends is drawn else " … ").join(f"{y:.4g} ({x})" for x, y in ends)


def _places(figure: go.Figure, trace: Any) -> list[str]:
    """Where each point stands, as the axis or the bar itself names it; empty for a point that nobody sees."""
    if isinstance(trace, go.Bar) and trace.customdata is not None:
        return [" ".join(str(part) for part in parts) for parts in trace.customdata]
    axis = figure.layout["xaxis" + (trace.xaxis or "x")[1:]]
    names = dict(zip(_list(axis.tickvals), _list(axis.ticktext), strict=False))
    return [names.get(x) or f"{x:,.5g}" if _is_number(x) else "" for x in _list(trace.x)]


def _list(values: Iterable[Any] | None) -> Sequence[Any]:
    return [] if values is None else list(values)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float)
