"""Decode throughput against the context: one curve a precision.

The physics: tokens a second fall with the context because each step also reads the cache; how much they differ
between precisions says whether decode is bound by weight bytes or by the host that launches kernels.

    tokens_s_vs_length(cell_rows(records)).show()
"""

from collections.abc import Sequence

import plotly.graph_objects as go

from farm.present.figures.curves import Curve, Look, curve_figure
from farm.present.figures.panels import shown_cache_mode
from farm.rows import CellRow


def tokens_s_vs_length(rows: Sequence[CellRow]) -> go.Figure:
    """Median decode tokens a second, with the cache on."""
    mode = shown_cache_mode(row for row in rows if row.kind == "speed")
    look = Look(
        title=f"Decode throughput, KV cache {mode}",
        y_title="Decode tokens per second",
        unit="tok/s",
        curves=(Curve("decode", mode, "solid", lambda row: row.decode_tok_s),),
    )
    return curve_figure(rows, look)
