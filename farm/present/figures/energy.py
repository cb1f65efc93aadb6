"""Joules a token against the context, by phase.

The physics: energy is power times time. Decode holds the device at work for a whole step for one token a sequence,
prefill shares a step between all prompt tokens, so a generated token costs tens to hundreds of times a prompt token.

    energy_per_token(cell_rows(records)).show()
"""

from collections.abc import Sequence

import plotly.graph_objects as go

from farm.present import theme
from farm.present.figures.curves import Look, curve_figure
from farm.present.figures.panels import shown_cache_mode
from farm.present.figures.points import Curve
from farm.rows import CellRow

TITLE = "Energy per token"


def energy_per_token(rows: Sequence[CellRow]) -> go.Figure:
    """Of the device's counter, idle power included; logarithmic, for the phases lie decades apart."""
    measured = [row for row in rows if row.kind == "speed" and row.energy.j_per_generated_token is not None]
    if not any(row.is_ok for row in measured):
        return theme.blank(TITLE, why_no_energy(rows))
    mode = shown_cache_mode(measured)
    look = Look(
        title=f"{TITLE}, KV cache {mode}",
        y_title="Joules per token (log scale)",
        unit="J",
        curves=(
            Curve("generated token", lambda row: row.energy.j_per_generated_token, cache_mode=mode),
            Curve("prompt token", lambda row: row.energy.j_per_prompt_token, cache_mode=mode, dash="dot"),
        ),
        log=True,
        with_bars=False,
    )
    return curve_figure([row for row in rows if row.kind == "speed"], look)


def why_no_energy(rows: Sequence[CellRow]) -> str:
    """The first reason that a row gives, or that nobody measured it."""
    reasons = (row.energy.energy_reason for row in rows if row.energy.energy_reason)
    return next(reasons, "no cell of this sweep measured its energy")
