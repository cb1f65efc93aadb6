"""Time a token against the context, with and without the KV cache.

The physics: with the cache a step reads the weights and the cache once; without it every step is a whole forward pass
over all tokens so far, so its time grows with the context.

    latency_vs_context(cell_rows(records)).show()
"""

from collections.abc import Sequence

import plotly.graph_objects as go

from farm.present.figures.curves import Curve, Look, curve_figure
from farm.rows import CellRow

LOOK = Look(
    title="Decode latency of one token, KV cache on and off",
    y_title="Time per output token (ms)",
    unit="ms",
    curves=(
        Curve("cache on", "on", "solid", lambda row: row.tpot_s),
        Curve("cache off", "off", "dash", lambda row: row.tpot_s),
    ),
    scale=1000.0,
    log=True,
)


def latency_vs_context(rows: Sequence[CellRow]) -> go.Figure:
    """Per-token decode latency in milliseconds, logarithmic."""
    return curve_figure(rows, LOOK)
