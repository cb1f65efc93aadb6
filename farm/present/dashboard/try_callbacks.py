"""The try page's buttons and its clock.

    register(app, settings)

Reloading, closing or opening the page twice changes nothing: the run's name is in the address, everything else is read
from its folder at every tick.
"""

from typing import Any

from dash import ClientsideFunction, Dash, Input, Output, State, ctx, html, no_update

from farm.errors import FarmError
from farm.present.dashboard.choices import choice_of
from farm.present.dashboard.form import FIELDS
from farm.present.dashboard.lanes import lanes
from farm.present.dashboard.launching import Busy, last_words
from farm.present.dashboard.parts import Part, only_changed
from farm.present.dashboard.reading import Snapshot, sweep_in
from farm.present.dashboard.settings import IDLE_TICK_MS, TRY_TICK_MS, Settings
from farm.present.dashboard.trying import lane_parts, streams_of, token_part, versus
from farm.present.dashboard.view import View
from farm.present.words import say

FILLED = ("try-state", "try-lanes", "try-versus", "token-times")


def register(app: Dash, settings: Settings) -> None:
    """The buttons, the clock, and the script that plays both streams again."""
    _buttons(app, settings)
    _clock(app, settings)
    app.clientside_callback(
        ClientsideFunction("farm", "play"),
        Output("played", "children"),
        Input("try-again", "n_clicks"),
        State("streams", "data"),
        prevent_initial_call=True,
    )


def _buttons(app: Dash, settings: Settings) -> None:
    @app.callback(
        Output("url", "search"),
        Output("try-complaint", "children"),
        Input("try-start", "n_clicks"),
        Input("try-stop", "n_clicks"),
        State("url", "search"),
        *(State(f"choose-{name}", "value") for name in FIELDS),
        prevent_initial_call=True,
    )
    def press(starts: object, stops: object, search: object, *chosen: object) -> tuple[Any, Part]:
        if not (starts or stops):  # the buttons have just appeared: nobody pressed them
            return no_update, no_update
        view = settings.view("/try", search)
        if ctx.triggered_id == "try-stop":
            settings.launcher.stop(view.run or "")
            return no_update, ""
        try:
            name = settings.launcher.start(choice_of(dict(zip(FIELDS, chosen, strict=True)), settings.offered))
        except Busy as busy:
            return no_update, _busy(view, busy.name)
        except FarmError as error:
            return no_update, str(error)
        return "?" + view.link(run=name).partition("?")[2], ""


def _busy(view: View, name: str) -> Part:
    page = "try" if name.startswith("try/") else "watch"
    link = html.A(say(view.language, "try_busy_link"), href=view.link(page, run=name))
    return html.Span([say(view.language, "try_busy", name=name), " ", link])


def _clock(app: Dash, settings: Settings) -> None:
    @app.callback(
        *(Output(name, "children") for name in FILLED),
        Output("try-seen", "data"),
        Output("streams", "data"),
        Output("try-start", "disabled"),
        Output("try-stop", "hidden"),
        Output("try-again", "hidden"),
        Output("try-tick", "interval"),
        Input("try-tick", "n_intervals"),
        Input("url", "search"),
        State("try-seen", "data"),
    )
    def fill(_: object, search: object, seen: object) -> tuple[Any, ...]:
        view = settings.view("/try", search)
        if view.run is None:
            return ("", "", "", "", {}, [], False, True, True, IDLE_TICK_MS)
        reader = settings.library.reader(view.run)
        snapshot = reader.look()
        sweep = sweep_in(snapshot)
        shown = lanes(sweep, snapshot, reader.rows(snapshot)) if sweep else ()
        filled = {
            "try-state": _state(snapshot, view.language),
            "try-lanes": lane_parts(shown, view.language),
            "try-versus": versus(shown, view.language),
            "token-times": token_part(shown, view.language),
        }
        changed, digests = only_changed(filled, seen)
        at_work, streams = snapshot.is_running, streams_of(shown)
        again = not at_work and any(stream["pieces"] for stream in streams)
        return (*changed, digests, streams, at_work, not at_work, not again, TRY_TICK_MS if at_work else IDLE_TICK_MS)


def _state(snapshot: Snapshot, language: str) -> Part:
    """Before the first worker: that something goes on; afterwards, why there is no figure."""
    if snapshot.is_running:
        return html.P(say(language, "workers_preparing"), className="hint") if not snapshot.now.jobs else ""
    if snapshot.keys and not snapshot.open_keys:
        return ""
    driver = snapshot.now.driver
    left = driver is not None and driver.ended_at is not None
    words = None if left else last_words(snapshot.path)  # one that was stopped while it started has said nothing
    return html.P(words or say(language, "try_stopped"), className="hint bad")
