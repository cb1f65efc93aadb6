"""One of the report's figures, of the cells that are there so far, fitted to the page's width.

figure_part(reader, "pareto", "en")
"""

import json
from collections.abc import Sequence
from typing import Any

from dash import dcc, html

from farm.present.dashboard.parts import Part, aria
from farm.present.dashboard.reading import RunReader
from farm.present.dashboard.watch import FIGURES
from farm.present.figures import one_drawing
from farm.present.figures.gantt_bars import LoggedEvent, parse_events
from farm.present.report_html import Picture, picture_of
from farm.present.report_html_parts import report_rows
from farm.present.words import say
from farm.rows import CellRow

CONFIG: Any = {"displaylogo": False, "responsive": True, "displayModeBar": False}


def figure_part(reader: RunReader, name: object, language: str) -> Part:
    """The figure with its words beneath; a name that is none gives the first."""
    snapshot = reader.look()
    if not snapshot.records:
        return html.P(say(language, "figures_waiting"), className="hint")
    chosen = name if name in FIGURES else FIGURES[0]
    picture, figure = drawn(reader, str(chosen), reader.rows(snapshot), language)
    if not picture.has_data:
        return html.P(picture.alt, className="hint")
    graph = dcc.Graph(figure=figure, config=CONFIG, style={"height": f"{picture.height}px"})
    caption = [html.B(picture.title), html.Span(picture.subtitle)]
    words = html.Details([html.Summary(say(language, "in_words")), html.P(picture.alt)])
    classes = "frame wide" if picture.is_wide else "frame"
    frame = html.Div(graph, className=classes, tabIndex="0", role="group", **aria(label=picture.title))
    return html.Figure([html.Figcaption(caption), frame, words])


def drawn(reader: RunReader, name: str, rows: Sequence[CellRow], language: str) -> tuple[Picture, dict[str, Any]]:
    """A figure's words, and what plotly draws, without plotly's template, as the report has it."""
    records = list(reader.look().records.values())
    picture = picture_of(one_drawing(name, report_rows(rows), records, _events(reader), language))
    figure: dict[str, Any] = json.loads(picture.json)
    axes = {"zeroline": False}
    figure["layout"] |= {"template": {"layout": {"xaxis": axes, "yaxis": axes}}, "uirevision": "same"}
    return picture, figure


def _events(reader: RunReader) -> tuple[LoggedEvent, ...]:
    log = reader.path / "events.jsonl"
    return parse_events(log.read_text(encoding="utf-8")) if log.is_file() else ()
