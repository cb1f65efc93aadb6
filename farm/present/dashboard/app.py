"""The dashboard's application: one frame, the pages in it, the clock that fills them.

    app = make_app(Library(Path("runs")), language="en")
    serve(app, "127.0.0.1", 8050, token=None)

Every callback looks at the run folder anew, so a reload, a second page or a new server shows the same.
"""

import hashlib
from pathlib import Path
from typing import Any

from dash import Dash, Input, Output, State, dcc, html, no_update

from farm.present.dashboard.figure import figure_part
from farm.present.dashboard.library import Library
from farm.present.dashboard.parts import Part, aria
from farm.present.dashboard.view import View, view_of
from farm.present.dashboard.watch import CONTAINERS, watch_page, watch_parts
from farm.present.words import say

TICK_MS, IDLE_TICK_MS = 1000, 4000
INDEX = """<!DOCTYPE html>
<html lang="@lang">
<head>{%metas%}<title>{%title%}</title><link rel="icon" href="data:,">{%css%}</head>
<body>{%app_entry%}<footer>{%config%}{%scripts%}{%renderer%}</footer></body>
</html>"""


def make_app(library: Library, language: str) -> Dash:
    """The application over these runs; nothing listens yet."""
    app = Dash(
        __name__,
        assets_folder=str(Path(__file__).parent / "assets"),
        title=say(language, "dash_title"),
        update_title="",
        serve_locally=True,
        suppress_callback_exceptions=True,
        meta_tags=[{"name": "viewport", "content": "width=device-width, initial-scale=1"}],
        index_string=INDEX.replace("@lang", language),
        add_log_handler=False,
        enable_mcp=False,
    )
    app.layout = _frame(language)
    _frame_callback(app, library, language)
    _watch_callbacks(app, library, language)
    return app


def _frame(language: str) -> Part:
    return html.Div(
        [
            dcc.Location(id="url", refresh=False),
            html.A(say(language, "dash_skip"), href="#content", className="skip"),
            html.Header(id="header"),
            html.Div(say(language, "dash_lost"), id="lost", role="alert", hidden=True),
            html.Main(html.P(say(language, "dash_loading"), className="hint"), id="content", tabIndex="-1"),
        ]
    )


def _frame_callback(app: Dash, library: Library, language: str) -> None:
    @app.callback(
        Output("header", "children"),
        Output("content", "children"),
        Input("url", "pathname"),
        Input("url", "search"),
    )
    def show_page(path: object, search: object) -> tuple[Part, Part]:
        view = view_of(library, path, search, language)
        return header(view), page(view, library)


def header(view: View) -> Part:
    """The name, the pages, the other language."""
    other = "es" if view.language == "en" else "en"
    links = [
        html.A(
            say(view.language, f"dash_{name}"),
            href=view.link(name, run=None if name == "try" else view.run),
            **aria(current="page" if name == view.page else None),
        )
        for name in ("watch", "try", "demo")
    ]
    language = html.A(
        say(view.language, "dash_other_language"), href=view.link(lang=other), lang=other, className="language"
    )
    nav = html.Nav(links, **aria(label=say(view.language, "dash_nav")))
    return html.Div([html.Span(say(view.language, "dash_title"), className="brand"), nav, language], className="inner")


def page(view: View, library: Library) -> Part:
    """The page itself, with a clock and, where several runs are there, the list of them."""
    if view.problem or (view.run is None and view.page != "try"):
        words = view.problem or say(view.language, "dash_no_runs", home=library.home)
        return html.Div(html.P(words, className="hint bad" if view.problem else "hint"), className="page")
    clock = dcc.Interval(id="tick", interval=TICK_MS)
    memory = dcc.Store(id="seen", data={}), dcc.Store(id="version", data="")
    return html.Div([_runs(view, library), watch_page(view.language), clock, *memory])


def _runs(view: View, library: Library) -> Part:
    """Every run as a link; closed unless somebody wants another one."""
    names = library.sweeps()
    if len(names) < 2:
        return []
    links = [
        html.Li(html.A(name, href=view.link(run=name), **aria(current="true" if name == view.run else None)))
        for name in names[:200]
    ]
    return html.Details(
        [html.Summary(f"{say(view.language, 'dash_runs')} ({len(names)})"), html.Ul(links)], className="runs"
    )


def _watch_callbacks(app: Dash, library: Library, language: str) -> None:
    @app.callback(
        *(Output(name, "children") for name in CONTAINERS),
        Output("seen", "data"),
        Output("version", "data"),
        Output("tick", "interval"),
        Input("tick", "n_intervals"),
        State("url", "pathname"),
        State("url", "search"),
        State("seen", "data"),
    )
    def fill(_: object, path: object, search: object, seen: object) -> tuple[Any, ...]:
        view = view_of(library, path, search, language)
        if view.run is None:
            return (*[no_update] * len(CONTAINERS), no_update, no_update, IDLE_TICK_MS)
        reader = library.reader(view.run)
        snapshot = reader.look()
        filled = watch_parts(snapshot, reader.rows(snapshot), view.language)
        changed, digests = only_changed(filled, seen)
        return (*changed, digests, snapshot.version, TICK_MS if snapshot.is_running else IDLE_TICK_MS)

    @app.callback(
        Output("figure", "children"),
        Input("version", "data"),
        Input("figure-choice", "value"),
        State("url", "pathname"),
        State("url", "search"),
    )
    def draw(_: object, name: object, path: object, search: object) -> Part:
        view = view_of(library, path, search, language)
        return no_update if view.run is None else figure_part(library.reader(view.run), name, view.language)


def only_changed(filled: dict[str, Part], seen: object) -> tuple[list[Part], dict[str, str]]:
    """The parts that a page does not show yet, `no_update` for the others; and the digest of each."""
    known = seen if isinstance(seen, dict) else {}
    digests = {name: hashlib.sha256(repr(part).encode()).hexdigest()[:16] for name, part in filled.items()}
    return [no_update if known.get(name) == digests[name] else part for name, part in filled.items()], digests
