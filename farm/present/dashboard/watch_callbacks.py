"""The clock of the watch page: what changed since a page last asked.

register(app, settings)
"""

from typing import Any

from dash import Dash, Input, Output, State, no_update

from farm.present.dashboard.figure import figure_part
from farm.present.dashboard.parts import Part, only_changed
from farm.present.dashboard.settings import IDLE_TICK_MS, TICK_MS, Settings
from farm.present.dashboard.watch import CONTAINERS, watch_parts


def register(app: Dash, settings: Settings) -> None:
    """Every value comes from a page and is looked at as if it were forged."""

    @app.callback(
        *(Output(name, "children") for name in CONTAINERS),
        Output("watch-seen", "data"),
        Output("watch-version", "data"),
        Output("watch-tick", "interval"),
        Input("watch-tick", "n_intervals"),
        State("url", "pathname"),
        State("url", "search"),
        State("watch-seen", "data"),
    )
    def fill(_: object, path: object, search: object, seen: object) -> tuple[Any, ...]:
        view = settings.view(path, search)
        if view.run is None:
            return (*[no_update] * len(CONTAINERS), no_update, no_update, IDLE_TICK_MS)
        reader = settings.library.reader(view.run)
        snapshot = reader.look()
        filled = watch_parts(snapshot, reader.rows(snapshot), view.language)
        changed, digests = only_changed(filled, seen)
        return (*changed, digests, snapshot.version, TICK_MS if snapshot.is_running else IDLE_TICK_MS)

    @app.callback(
        Output("figure", "children"),
        Input("watch-version", "data"),
        Input("figure-choice", "value"),
        State("url", "pathname"),
        State("url", "search"),
    )
    def draw(_: object, name: object, path: object, search: object) -> Part:
        view = settings.view(path, search)
        return no_update if view.run is None else figure_part(settings.library.reader(view.run), name, view.language)
