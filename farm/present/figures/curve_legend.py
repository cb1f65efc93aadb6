"""The legend of a curve figure: one entry a precision, one a dash, one for the limit.

Why not one entry a line: precisions times dashes is twice as long and says no more.

    add_legend(figure, panels, look.curves, with_limit=True)
"""

from collections.abc import Sequence

import plotly.graph_objects as go

from farm.present import theme
from farm.present.figures.panels import Panel, in_catalog_order
from farm.present.figures.points import Curve


def add_legend(figure: go.Figure, panels: Sequence[Panel], curves: Sequence[Curve], with_limit: bool) -> None:
    """Entries on invisible traces."""
    for quantization in in_catalog_order(row.quantization for panel in panels for row in panel.rows):
        color, symbol = theme.color_of(quantization), theme.symbol_of(quantization)
        legend_entry(figure, theme.title_of(quantization), "Precision", color, "solid", symbol)
    for curve in curves if len(curves) > 1 else ():
        legend_entry(figure, curve.name, "Line", theme.INK, curve.dash, None)
    if with_limit:
        legend_entry(figure, "physical limit", "Line", theme.INK, "2px 4px", None, width=1.5)


def legend_entry(
    figure: go.Figure, name: str, group: str, color: str, dash: str, symbol: str | None, width: float = 2.5
) -> None:
    """One line of the legend under the heading `group`; `symbol` None draws a line alone."""
    figure.add_trace(
        go.Scatter(
            x=[None],
            y=[None],
            mode="lines+markers" if symbol else "lines",
            name=name,
            legendgroup=group,
            legendgrouptitle_text=group,
            line={"color": color, "dash": dash, "width": width},
            marker={"symbol": symbol, "size": 9} if symbol else None,
        )
    )
