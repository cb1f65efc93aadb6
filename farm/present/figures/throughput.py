"""Decode throughput against the context: one curve a precision, and where engines meet, one dash an engine.

The physics: tokens a second fall with the context because each step also reads the cache; how much they differ
between precisions says whether decode is bound by weight bytes or by the host that launches kernels.

    tokens_s_vs_length(cell_rows(records)).show()
"""

from collections.abc import Sequence

import plotly.graph_objects as go

from farm.present import theme
from farm.present.figures.curves import Look, curve_figure
from farm.present.figures.panels import shown_cache_mode
from farm.present.figures.points import Curve
from farm.rows import CellRow


def tokens_s_vs_length(rows: Sequence[CellRow]) -> go.Figure:
    """Median decode tokens a second, with the cache on, under what the device allows."""
    mode = shown_cache_mode(row for row in rows if row.kind == "speed")
    look = Look(
        title=f"Decode throughput, KV cache {mode}",
        y_title="Decode tokens per second",
        unit="tok/s",
        curves=(Curve("decode", lambda row: row.decode_tok_s, cache_mode=mode, limit=limit_tok_s),),
    )
    return curve_figure(rows, look)


def engines_vs_length(rows: Sequence[CellRow]) -> go.Figure:
    """The same with all engines of a model on one pair of axes."""
    title = "Decode throughput by engine"
    speed = [row for row in rows if row.kind == "speed"]
    engines = tuple(dict.fromkeys(row.engine for row in speed))
    if len(engines) < 2:
        return theme.blank(title, "no second engine in this sweep to compare with")
    mode = shown_cache_mode(speed)
    look = Look(
        title=f"{title}, KV cache {mode}",
        y_title="Decode tokens per second (log scale)",
        unit="tok/s",
        curves=tuple(_engine_curve(engine, mode) for engine in engines),
        log=True,
        join_engines=True,
    )
    return curve_figure(rows, look)


def _engine_curve(engine: str, mode: str) -> Curve:
    dash = theme.dash_of_engine(engine)
    return Curve(engine, lambda row: row.decode_tok_s, cache_mode=mode, engine=engine, dash=dash)


def limit_tok_s(row: CellRow) -> float | None:
    """What the device's memory and arithmetic allow at best, in tokens a second."""
    return row.roofline.decode_limit_tok_s
