"""The sweep as it ran: one bar a load group, its loading, its measuring, and every cell that did not end well.

Why: it shows what a sweep's hours went into, whether devices stood idle, and where a failure cost time.

    gantt(parse_events(text), records).show()
"""

import html
from collections.abc import Sequence

import plotly.graph_objects as go

from farm.present import theme
from farm.present.figures.curve_legend import legend_entry
from farm.present.figures.gantt_bars import Bar, Chart, LoggedEvent, chart_of
from farm.present.figures.panels import in_catalog_order
from farm.present.figures.schedule import schedule_of
from farm.records import Record

TITLE = "The sweep as it ran"
LEGEND_LINE = 24
LANE_HEIGHT = 46


def gantt(events: Sequence[LoggedEvent], records: Sequence[Record]) -> go.Figure:
    """Minutes of work on the x axis; one lane for each group that ran at the same time."""
    chart = chart_of(events, records)
    if not chart.bars:
        return theme.blank(TITLE, "no event log of this run was given")
    figure = go.Figure()
    for bar in chart.bars:
        _draw_bar(figure, bar)
    _draw_failures(figure, chart)
    for resumed_s in chart.resumed_s:
        figure.add_vline(x=resumed_s / 60, line={"color": theme.INK, "dash": "dot"}, annotation_text="went on")
    families = in_catalog_order(theme.family_of(bar.quantization) for bar in chart.bars if bar.quantization)
    for name in families:
        legend_entry(figure, theme.title_of(name), "Precision", theme.color_of(name), "solid", "square")
    lanes = 1 + max(bar.lane for bar in chart.bars)
    figure.update_layout(barmode="overlay")
    figure.update_xaxes(title_text="Minutes of work")
    figure.update_yaxes(
        tickvals=list(range(lanes)), ticktext=[f"slot {lane + 1}" for lane in range(lanes)], range=[lanes - 0.5, -0.5]
    )
    return theme.dress(
        figure, TITLE, _subtitle(chart), height=max(260 + LANE_HEIGHT * lanes, 230 + LEGEND_LINE * len(families))
    )


def _draw_bar(figure: go.Figure, bar: Bar) -> None:
    color = theme.color_of(bar.quantization)
    _draw_part(figure, bar, "loading", bar.start_s, bar.loaded_s, theme.tint(color, 0.35))
    _draw_part(figure, bar, "measuring", bar.loaded_s, bar.end_s, color)


def _draw_part(figure: go.Figure, bar: Bar, what: str, start_s: float, end_s: float, color: str) -> None:
    if end_s <= start_s:
        return
    text = f"{bar.label}: {what} {(end_s - start_s):.1f} s, {len(bar.marks)} cells"
    figure.add_trace(
        go.Bar(
            base=[start_s / 60],
            x=[(end_s - start_s) / 60],
            y=[bar.lane],
            orientation="h",
            width=0.6,
            name=f"{bar.label}, {what}",
            showlegend=False,
            marker={"color": color, "line": {"color": theme.PAPER, "width": 1.5}},
            hovertext=[text],
            hoverinfo="text",
        )
    )


def _draw_failures(figure: go.Figure, chart: Chart) -> None:
    failed = [(bar, mark) for bar in chart.bars for mark in bar.marks if mark.status != "ok"]
    if not failed:
        return
    figure.add_trace(
        go.Scatter(
            x=[mark.at_s / 60 for _, mark in failed],
            y=[bar.lane - 0.38 for bar, _ in failed],
            mode="text",
            name="failed",
            showlegend=False,
            text=["<b>✕</b>" for _ in failed],
            hovertext=[html.escape(f"{mark.status}: {bar.label}, {mark.label}") for bar, mark in failed],
            hoverinfo="text",
        )
    )


def _subtitle(chart: Chart) -> str:
    cells = sum(len(bar.marks) for bar in chart.bars)
    minutes = max(bar.end_s for bar in chart.bars) / 60
    loading_s = sum(bar.loaded_s - bar.start_s for bar in chart.bars)
    total_s = sum(bar.end_s - bar.start_s for bar in chart.bars) or 1.0
    share = f"{loading_s / total_s:.0%} of the time was loading (pale)"
    busy = schedule_of(chart).busy_share
    if busy is not None:
        share = f"{chart.slots} device(s), {busy:.0%} busy; {share}"
    return f"{cells} cells in {len(chart.bars)} load groups, {minutes:.1f} minutes; {share}; crosses: cells not ok"
