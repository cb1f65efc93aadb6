"""report.html: the whole run on one page that needs no network, to be read, sent and archived as one file.

Why one file: plotly's library is inlined once (5 MB) and a policy in the page forbids every request, so that it looks
the same in ten years and leaks nothing. A page that is published beside its figures shares their copy (`library`).
Figures are drawn when they scroll into view: a page of 1,000 cells opens in under two seconds.

    write_report_html(Path("out/report.html"), page_of(rows, records, drawings, "en", "demo"))

Text comes from the rows alone; everything put into the page is escaped by the template.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
from jinja2 import Environment, PackageLoader, StrictUndefined
from plotly.offline import get_plotlyjs

from farm import __version__
from farm.present.alt import alt_text, subtitle_of, title_of
from farm.present.atomic import write_atomically
from farm.present.caveats import caveats
from farm.present.figures import Drawing
from farm.present.figures.summary_table import HEADER, Box, table_lines
from farm.present.report_html_cells import CellLine, cell_lines
from farm.present.report_html_parts import Failed, Place, failures, lead, methods, places, shows_all_batches
from farm.present.sentence_parts import Sentence
from farm.present.sentences import Answer, answer_questions
from farm.present.theme import ink_on
from farm.present.translate import in_spanish
from farm.present.words import LANGUAGES, number, numbers_in, say
from farm.records import Record
from farm.rows import CellRow

# The table is drawn in HTML here, where a screen reader can walk it; nothing else is left out.
AS_HTML = "summary_table"
TOTALS = "total"
_TOP, _BOTTOM, _LEGEND_LINE = 36, 64, 22


@dataclass(frozen=True, slots=True)
class Picture:
    """A figure on the page: its words, and the JSON that plotly draws. `is_wide`: two panels side by side."""

    name: str
    title: str
    subtitle: str
    alt: str
    height: int
    is_wide: bool
    has_data: bool
    json: str


@dataclass(frozen=True, slots=True)
class Page:
    """Everything the template prints. `library`: where plotly lies, seen from the page; None: within it."""

    language: str
    sweep: str
    lead: str
    answers: tuple[Answer, ...]
    caveats: tuple[Sentence, ...]
    pictures: dict[str, Picture]
    summary_header: tuple[str, ...]
    summary: tuple[tuple[Box, ...], ...]
    failures: tuple[Failed, ...]
    cells: tuple[CellLine, ...]
    statuses: tuple[str, ...]
    methods: tuple[str, ...]
    places: tuple[Place, ...]
    library: str | None = None

    @property
    def more_pictures(self) -> list[Picture]:
        """Those that stand beside no answer."""
        shown = {name for answer in self.answers for name in answer.figures}
        return [picture for name, picture in self.pictures.items() if name not in shown]


def page_of(
    rows: Sequence[CellRow],
    records: Sequence[Record],
    drawings: Sequence[Drawing],
    language: str,
    sweep: str | None,
    more_methods: Sequence[str] = (),
    asked: int | None = None,
) -> Page:
    """`drawings` are those of `report_rows(rows)`, in the page's language; `records` the final one of each cell;
    `more_methods` what the run as a whole tells; `asked` how many cells it was to measure.
    """
    warned = caveats(rows, language)
    if not shows_all_batches(rows):
        warned = (*warned, Sentence(say(language, "caveat_batches")))
    return Page(
        language=language,
        sweep=sweep or "-",
        lead=lead(rows, language, asked),
        answers=answer_questions(rows, language),
        caveats=warned,
        pictures={one.name: picture_of(one) for one in drawings if one.name != AS_HTML},
        summary_header=tuple(_in(language, title.replace("<br>", " ")) for title in HEADER),
        summary=tuple(tuple(Box(_in(language, box.text), box.fill) for box in line) for line in table_lines(rows)),
        failures=failures(rows),
        cells=cell_lines(rows, language),
        statuses=tuple(sorted({row.status.value for row in rows})),
        methods=(*methods(rows, records, language), *more_methods),
        places=places(records, language),
    )


def write_report_html(file: Path, page: Page) -> Path:
    """Write atomically; the same page gives the same bytes."""
    return write_atomically(file, to_html(page).encode())


def to_html(page: Page) -> str:
    """The file's text."""
    template = _templates().get_template("report.html.j2")
    return template.render(page=page, t=lambda name, **values: say(page.language, name, **values), **_parts(page))


def _parts(page: Page) -> dict[str, Any]:
    return {
        "css": _source("report.css"),
        "script": _source("report.js"),
        "plotly": "" if page.library else get_plotlyjs(),
        "columns": LANGUAGES[page.language]["columns"].split("|"),
        "ink_on": ink_on,
        "count": numbers_in(page.language, number(len(page.cells))),
        "version": __version__,
    }


@cache
def _templates() -> Environment:
    loader = PackageLoader("farm.present", "html")
    return Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)


def _source(name: str) -> str:
    environment = _templates()
    assert environment.loader is not None
    return environment.loader.get_source(environment, name)[0]


def _in(language: str, text: str) -> str:
    return in_spanish(text) if language == "es" else text


def picture_of(drawing: Drawing) -> Picture:
    """The figure without its own title (the page has it) and with its legend below, as wide as the page allows."""
    title, subtitle, alt = title_of(drawing.figure), subtitle_of(drawing.figure), alt_text(drawing.figure)
    # Totals above bars are printed for a width that a page in a window does not have.
    traces = [trace for trace in drawing.figure.data if trace.name != TOTALS]
    figure = go.Figure(traces, drawing.figure.layout)
    legend = _legend_height(figure)
    height = (figure.layout.height or 620) - 190 + _TOP + _BOTTOM + legend if figure.data else 120
    figure.update_layout(
        title=None,
        width=None,
        height=height,
        margin={"l": 60, "r": 16, "t": _TOP, "b": _BOTTOM + legend},
        legend={"orientation": "h", "x": 0, "y": 0, "yref": "container", "yanchor": "bottom", "xanchor": "left"},
    )
    is_wide = (drawing.figure.layout.width or 0) > 1300
    return Picture(
        drawing.name, title, subtitle, alt, height, is_wide, bool(figure.data), _safe(figure.to_plotly_json())
    )


def _legend_height(figure: go.Figure) -> int:
    """Groups stand side by side, the longest decides."""
    groups: dict[str, int] = {}
    for trace in figure.data:
        if trace.showlegend is not False and not isinstance(trace, go.Table):
            groups[trace.legendgroup or ""] = groups.get(trace.legendgroup or "", 0) + 1
    return _LEGEND_LINE * (1 + max(groups.values())) if groups else 0


def _safe(plain: dict[str, Any]) -> str:
    """JSON that may stand inside a script element: nothing in it can close one."""
    layout = {name: value for name, value in plain["layout"].items() if name != "template"}
    text = json.dumps({"data": plain["data"], "layout": layout}, sort_keys=True, allow_nan=False, default=list)
    return text.replace("<", "\\u003c")
