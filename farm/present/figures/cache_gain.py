"""What the KV cache buys at each context, and from which context on it pays.

The physics: without the cache a step repeats the whole prompt's arithmetic, so the gain grows with the context; at a
short one the repeat is nearly free (a step reads all weights anyway) and managing a cache may cost more than it saves.
The crossover is where the gain passes 1.

    cache_gain(cell_rows(records)).show()
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import replace

import plotly.graph_objects as go

from farm.present import theme
from farm.present.figures.curves import Look, curve_figure
from farm.present.figures.panels import Panel, curve_panels, place, present_cache_modes
from farm.present.figures.points import Curve, Point, points
from farm.rows import CellRow

TITLE = "What the KV cache buys in decode"
NOTHING = "no pair of cells with the KV cache on and off to compare"


def cache_gain(rows: Sequence[CellRow]) -> go.Figure:
    """Decode speed with the cache over decode speed without it, by context; the dashed level is no gain."""
    speed = [row for row in rows if row.kind == "speed" and row.is_ok]
    paired = [_with_the_verdict_of_both(row) for row in speed if row.cache_speedup is not None]
    if not paired:
        return theme.blank(TITLE, NOTHING)
    look = Look(
        title=TITLE,
        y_title="Speed with cache / without (×, log scale)",
        unit="×",
        curves=tuple(gain_curve(mode) for mode in present_cache_modes(paired)),
        log=True,
        reference=1.0,
        with_strip=False,
        with_bars=False,
    )
    figure = curve_figure(paired, look)
    for index, panel in enumerate(curve_panels(paired)):
        _note(figure, panel, look.curves, place(index))
    return figure


def _with_the_verdict_of_both(row: CellRow) -> CellRow:
    return replace(row, trust=replace(row.trust, verdict=row.cache_speedup_verdict))


def gain_curve(mode: str) -> Curve:
    """The gain of one cache mode over none at all."""
    return Curve(f"cache {mode}", lambda row: row.cache_speedup, cache_mode=mode, dash=theme.dash_of_cache(mode))


def crossover(line: Sequence[Point]) -> float | None:
    """The context from which on the gain stays above 1, straight between two points on logarithmic axes.

    None when it never passes 1 between two measured contexts: above from the first one on, or below up to the last.
    """
    for before, after in reversed(list(itertools.pairwise(line))):
        if before.value < 1 <= after.value:
            share = -math.log(before.value) / (math.log(after.value) - math.log(before.value))
            return before.context * (after.context / before.context) ** share
    return None


def crossover_words(line: Sequence[Point]) -> str:
    """`pays from about 40 tokens`, or why there is no such context."""
    context = crossover(line)
    if context is not None:
        return f"pays from about {context:,.0f} tokens"
    return "pays at every length measured" if line[0].value >= 1 else "does not pay at any length measured"


def _note(figure: go.Figure, panel: Panel, curves: Sequence[Curve], at: tuple[int, int]) -> None:
    """Where each line crosses, in the corner that growing curves leave free, and a cross on the level itself."""
    lines = [
        (theme.short_title_of(name) + (f", {curve.name}" if len(curves) > 1 else ""), measured)
        for curve in curves
        for name in panel.quantizations
        if (measured := points(panel.rows, curve, name))
    ]
    _mark_crossings(figure, [measured for _, measured in lines], at)
    figure.add_annotation(
        text="<br>".join(_notes([(name, crossover_words(measured)) for name, measured in lines])),
        x=0.99,
        y=0.01,
        xref="x domain",
        yref="y domain",
        xanchor="right",
        yanchor="bottom",
        align="right",
        showarrow=False,
        font_size=12,
        row=at[0],
        col=at[1],
    )


def _notes(words: Sequence[tuple[str, str]]) -> list[str]:
    """One line for all that say the same."""
    same: dict[str, list[str]] = {}
    for name, word in words:
        same.setdefault(word, []).append(name)
    return [f"{', '.join(names)}: {word}" for word, names in same.items()]


def _mark_crossings(figure: go.Figure, lines: Sequence[Sequence[Point]], at: tuple[int, int]) -> None:
    found = [(context, line[0].row.quantization) for line in lines if (context := crossover(line)) is not None]
    if not found:
        return
    figure.add_trace(
        go.Scatter(
            x=[context for context, _ in found],
            y=[1.0] * len(found),
            mode="markers",
            name="crossover",
            showlegend=False,
            marker={"symbol": "x", "size": 11, "color": [theme.color_of(name) for _, name in found]},
            hovertemplate="%{x:.0f} tokens<extra></extra>",
        ),
        row=at[0],
        col=at[1],
    )
