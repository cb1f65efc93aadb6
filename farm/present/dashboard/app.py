"""The dashboard's application: one frame, the pages in it, the clock that fills them.

    app = make_app(settings)
    serve(app, address_of("127.0.0.1", 8050, token=None), print)

Every callback looks at the run folder anew, so a reload, a second page or a new server shows the same.
"""

from pathlib import Path

from dash import Dash, Input, Output, State, dcc, html

from farm.present.dashboard import try_callbacks, watch_callbacks
from farm.present.dashboard.demo import demo_page
from farm.present.dashboard.form import first_values
from farm.present.dashboard.library import Library
from farm.present.dashboard.parts import Part, aria
from farm.present.dashboard.reading import sweep_in
from farm.present.dashboard.settings import TICK_MS, Settings
from farm.present.dashboard.trying import try_page
from farm.present.dashboard.view import View
from farm.present.dashboard.watch import watch_page
from farm.present.words import say

INDEX = """<!DOCTYPE html>
<html lang="@lang">
<head>{%metas%}<title>{%title%}</title><link rel="icon" href="data:,">{%css%}</head>
<body>{%app_entry%}<footer>{%config%}{%scripts%}{%renderer%}</footer></body>
</html>"""


def make_app(settings: Settings) -> Dash:
    """The application over these runs; nothing listens yet."""
    language = settings.language
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
    _frame_callback(app, settings)
    watch_callbacks.register(app, settings)
    try_callbacks.register(app, settings)
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


def _frame_callback(app: Dash, settings: Settings) -> None:
    @app.callback(
        Output("header", "children"),
        Output("content", "children"),
        Input("url", "pathname"),
        State("url", "search"),
    )
    def show_page(path: object, search: object) -> tuple[Part, Part]:
        view = settings.view(path, search)
        return header(view), page(view, settings)


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


def page(view: View, settings: Settings) -> Part:
    """The page itself, with a clock and, where several runs are there, the list of them."""
    if view.problem or (view.run is None and view.page != "try"):
        words = view.problem or say(view.language, "dash_no_runs", home=settings.library.home)
        return html.Div(html.P(words, className="hint bad" if view.problem else "hint"), className="page")
    clock = dcc.Interval(id=f"{view.page}-tick", interval=TICK_MS)
    memory = dcc.Store(id=f"{view.page}-seen", data={}), dcc.Store(id=f"{view.page}-version", data="")
    if view.page == "try":
        return html.Div([_try_page(view, settings), clock, *memory])
    if view.page == "demo" and view.run:
        return demo_page(settings.library.reader(view.run), view.language)
    return html.Div([_runs(view, settings.library), watch_page(view.language), clock, *memory])


def _try_page(view: View, settings: Settings) -> Part:
    """With the choice of the run that the address names."""
    sweep = sweep_in(settings.library.reader(view.run).look()) if view.run else None
    return try_page(view.language, settings.offered, first_values(settings.offered, sweep))


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
