"""What quantization costs in quality: perplexity against the 16-bit row of the same model, in percent.

Why percent of perplexity: its level depends on tokenizer and text, its change on the same text does not. The line at
5 % is where a loss stops being a rounding matter and should be looked at.

    ppl_degradation(cell_rows(records)).show()
"""

from collections.abc import Sequence

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from farm.formulas import PPL_LIMIT_PERCENT
from farm.present import theme
from farm.present.figures.panels import Panel, devices, grid, place, quality_panels
from farm.rows import CellRow

TITLE = "Perplexity against the baseline precision"
LIMIT_PERCENT = PPL_LIMIT_PERCENT


def ppl_degradation(rows: Sequence[CellRow]) -> go.Figure:
    """One bar a precision; the baseline and failed cells are named at their place and have no bar."""
    panels = quality_panels(rows)
    if not panels:
        return theme.blank(TITLE, why_no_quality(rows))
    down, across = grid(panels)
    figure = make_subplots(down, across, subplot_titles=[panel.title for panel in panels], vertical_spacing=0.2 / down)
    for index, panel in enumerate(panels):
        _draw_panel(figure, panel, place(index))
    return theme.dress(figure, TITLE, _subtitle(rows), 200 + 430 * down, 340 + 560 * across)


def why_no_quality(rows: Sequence[CellRow]) -> str:
    """The reason why no row has a perplexity."""
    if rows and not any(row.has_true_weights for row in rows):
        return "the perplexity of random weights means nothing"
    return "no perplexity cell in this sweep"


def _draw_panel(figure: go.Figure, panel: Panel, at: tuple[int, int]) -> None:
    slots = {name: slot for slot, name in enumerate(panel.quantizations)}
    compared = [row for row in panel.rows if row.quality.perplexity_delta_percent is not None]
    _draw_bars(figure, compared, slots, at)
    for row in panel.rows:
        if row not in compared:
            _mark(figure, row, slots, at)
    figure.add_hline(
        y=LIMIT_PERCENT,
        line={"color": theme.INK, "dash": "dash", "width": 1.5},
        annotation_text="5 %",
        annotation_position="top right",
        row=at[0],
        col=at[1],
    )
    figure.update_xaxes(
        tickvals=list(slots.values()),
        ticktext=[theme.short_title_of(name).replace(" ", "<br>") for name in slots],
        tickangle=0,
        tickfont_size=_font_size(slots),
        range=[-0.6, len(slots) - 0.4],
        showgrid=False,
        row=at[0],
        col=at[1],
    )
    figure.update_yaxes(title_text="Change of perplexity (%)", range=_range(compared), row=at[0], col=at[1])


def _draw_bars(figure: go.Figure, rows: Sequence[CellRow], slots: dict[str, int], at: tuple[int, int]) -> None:
    colors = [theme.color_of(row.quantization) for row in rows]
    figure.add_trace(
        go.Bar(
            x=[slots[row.quantization] for row in rows],
            y=[row.quality.perplexity_delta_percent for row in rows],
            width=0.6,
            marker_color=colors,
            text=[f"{row.quality.perplexity_delta_percent:+.2f} %<br>PPL {_ppl(row)}" for row in rows],
            textposition="outside",
            textfont_size=_font_size(slots),
            constraintext="none",
            cliponaxis=False,
            showlegend=False,
            hoverinfo="text",
        ),
        row=at[0],
        col=at[1],
    )


def _font_size(slots: dict[str, int]) -> int:
    """So that the words of two neighbours do not meet."""
    return 14 if len(slots) <= 4 else 11


def _mark(figure: go.Figure, row: CellRow, slots: dict[str, int], at: tuple[int, int]) -> None:
    figure.add_annotation(
        x=slots[row.quantization],
        y=0,
        yanchor="bottom",
        text=_mark_text(row),
        showarrow=False,
        font_size=_font_size(slots),
        row=at[0],
        col=at[1],
    )


def _mark_text(row: CellRow) -> str:
    if not row.is_ok:
        return theme.cross(row.quantization, row.status.value)
    is_baseline = row.quantization == row.baseline_quantization
    return f"{'baseline' if is_baseline else 'no baseline'}<br>PPL {_ppl(row)}"


def _ppl(row: CellRow) -> str:
    value = row.quality.perplexity
    return "?" if value is None else f"{value:.3f}"


def _range(rows: Sequence[CellRow]) -> list[float]:
    """Room for the 5 % line, and for two lines of text beyond the longest bars."""
    changes = [row.quality.perplexity_delta_percent or 0.0 for row in rows]
    top, bottom = max([LIMIT_PERCENT, *changes]), min([0.0, *changes])
    span = top - bottom
    return [bottom - (0.22 * span if bottom < 0 else 0), top + 0.25 * span]


def _subtitle(rows: Sequence[CellRow]) -> str:
    quality = [row.quality for row in rows if row.kind == "quality" and row.quality.perplexity is not None]
    protocols = dict.fromkeys(
        f"{item.perplexity_protocol} on {item.perplexity_text}, {item.perplexity_tokens:,} tokens" for item in quality
    )
    return "; ".join([devices(rows), *protocols])
