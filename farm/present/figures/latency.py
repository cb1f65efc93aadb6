"""Time a token against the context, with and without the KV cache.

The physics: with the cache a step reads the weights and the cache once; without it every step is a whole forward pass
over all tokens so far, so its time grows with the context.

    latency_vs_context(cell_rows(records)).show()
"""

from collections.abc import Sequence

import plotly.graph_objects as go

from farm.present import theme
from farm.present.figures.curves import Look, curve_figure
from farm.present.figures.panels import present_cache_modes
from farm.present.figures.points import Curve
from farm.rows import CellRow


def latency_vs_context(rows: Sequence[CellRow]) -> go.Figure:
    """Per-token decode latency in milliseconds, logarithmic; the limit is that of a cached step."""
    modes = present_cache_modes(row for row in rows if row.kind == "speed")
    look = Look(
        title="Decode latency of one token, KV cache on and off",
        y_title="Time per output token (ms)",
        unit="ms",
        curves=tuple(_curve(mode) for mode in modes),
        scale=1000.0,
        log=True,
    )
    return curve_figure(rows, look)


def _curve(mode: str) -> Curve:
    return Curve(
        f"cache {mode}",
        lambda row: row.tpot_s,
        cache_mode=mode,
        dash=theme.dash_of_cache(mode),
        limit=step_limit_s if mode == "on" else None,
    )


def step_limit_s(row: CellRow) -> float | None:
    """The shortest time of one decode step, in seconds: batch / decode limit."""
    limit = row.roofline.decode_limit_tok_s
    return row.batch_size / limit if limit and row.batch_size else None
