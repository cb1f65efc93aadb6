"""Prefill and decode side by side: tokens a second in each phase, on one logarithmic axis.

The physics: prefill works on all prompt tokens at once and is bound by arithmetic, decode on one and is bound by
memory traffic; the gap between the two lines of a colour is what batching or a better decode kernel can win.

    prefill_vs_decode(cell_rows(records)).show()
"""

from collections.abc import Sequence

import plotly.graph_objects as go

from farm.present.figures.curves import Look, curve_figure
from farm.present.figures.panels import shown_cache_mode
from farm.present.figures.points import Curve
from farm.rows import CellRow


def prefill_vs_decode(rows: Sequence[CellRow]) -> go.Figure:
    """Throughput of both phases against the context."""
    mode = shown_cache_mode(row for row in rows if row.kind == "speed")
    look = Look(
        title=f"Prefill against decode, KV cache {mode}",
        y_title="Tokens per second (log scale)",
        unit="tok/s",
        curves=(
            Curve("prefill", lambda row: row.prefill_tok_s, cache_mode=mode, dash="dot"),
            Curve("decode", lambda row: row.decode_tok_s, cache_mode=mode),
        ),
        log=True,
    )
    return curve_figure(rows, look)
