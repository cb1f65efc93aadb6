"""The demo page: the scenes one after the other, with captions; a script in the page turns them.

    demo_page(reader, "en")

Everything is in the page from the start, so playing asks the server for nothing, and a recording is the same each time.
"""

import json
from collections.abc import Sequence

from dash import dcc, html

from farm.present.dashboard import parts
from farm.present.dashboard.figure import CONFIG, drawn
from farm.present.dashboard.parts import Part
from farm.present.dashboard.reading import RunReader, Snapshot
from farm.present.dashboard.scenes import Number, Scene, Shot, film_of
from farm.present.sentence_parts import smallest_batch
from farm.present.words import number, say
from farm.rows import CellRow

HEIGHT = 360
ALL_ENGINES = "decode_ladder"  # the one figure that puts every engine on one pair of axes


def scenes_in(reader: RunReader, language: str) -> tuple[Scene, ...]:
    """The film of a run as its records are now."""
    snapshot = reader.look()
    return film_of(reader.rows(snapshot), snapshot.now, _name(snapshot), language)


def demo_page(reader: RunReader, language: str) -> Part:
    """All scenes; the first is shown, the others wait."""
    snapshot = reader.look()
    if not snapshot.records:
        return html.Div(html.P(say(language, "figures_waiting"), className="hint"), className="page")
    rows = reader.rows(snapshot)
    film = scenes_in(reader, language)
    stages = [_stage(scene, place, len(film), reader, rows, language) for place, scene in enumerate(film)]
    head = html.P(say(language, "demo_of", sweep=_name(snapshot)), className="quiet")
    return html.Div([head, html.Div(stages, id="stages"), _controls(film, language)], className="page demo", id="demo")


def one_subject(rows: Sequence[CellRow]) -> list[CellRow]:
    """Beside every quality row those of the first model, engine and device at its smallest batch.

    A figure has a panel for each of them, and the stage has room for one.
    """
    speed = [row for row in rows if row.kind == "speed"]
    own = {row.key for row in smallest_batch([row for row in speed if row.subject == speed[0].subject])}
    return [row for row in rows if row.kind != "speed" or row.key in own]


def _name(snapshot: Snapshot) -> str:
    return snapshot.manifest.sweep.name if snapshot.manifest else snapshot.path.name


def _controls(film: Sequence[Scene], language: str) -> Part:
    """Buttons, and one dot a scene; the arrow keys do the same."""
    words = {"play": say(language, "demo_play"), "pause": say(language, "demo_pause")}
    buttons = [
        html.Button(say(language, "demo_back"), id="demo-back"),
        html.Button(words["play"], id="demo-play", className="primary", **parts.data(**words)),
        html.Button(say(language, "demo_next"), id="demo-next"),
    ]
    dots = html.Ol(
        [html.Li(className="dot", title=scene.title) for scene in film], className="dots", **parts.aria(hidden="true")
    )
    return html.Div([*buttons, dots], className="controls")


def _stage(scene: Scene, place: int, scenes: int, reader: RunReader, rows: Sequence[CellRow], language: str) -> Part:
    label = say(language, "demo_scene", number=number(place + 1), scenes=number(scenes))
    body = [html.P(label, className="quiet"), html.H1(scene.title)]
    middle = [*_numbers(scene.numbers), *([_shot(scene.shot, place)] if scene.shot else [])]
    pictures = [picture for name in scene.figures for picture in _picture(name, reader, rows, language)]
    sides = html.Div([html.Div(middle, className="told"), html.Div(pictures, className="pictures")], className="sides")
    captions = html.Div([html.P(sentence) for sentence in scene.sentences], className="captions")
    classes = f"stage {scene.name}" + (" without" if not middle else "")
    return html.Section(
        [*body, sides, captions],
        className=classes,
        **parts.data(seconds=f"{scene.seconds:.2f}"),
        **parts.aria(label=scene.title),
    )


def _numbers(numbers: Sequence[Number]) -> list[Part]:
    if not numbers:
        return []
    boxes = [
        html.Div(
            [html.Dt([parts.chip(one.quantization), f" {one.label}"]), html.Dd(one.value, className="value")],
            className="big",
            **parts.data(key=one.key),
        )
        for one in numbers
    ]
    return [html.Dl(boxes, className="numbers")]


def _shot(shot: Shot, place: int) -> Part:
    """An empty box that the script fills at the recorded times."""
    pieces = json.dumps([list(piece) for piece in shot.stream.pieces])
    box = html.Div(
        html.P(id=f"shot-{place}", className="shot", **parts.data(pieces=pieces)), className="stream", tabIndex="0"
    )
    return html.Figure([html.Figcaption(html.Span(shot.caption)), box])


def _picture(name: str, reader: RunReader, rows: Sequence[CellRow], language: str) -> list[Part]:
    """None where the figure has nothing to show."""
    picture, figure = drawn(reader, name, rows if name == ALL_ENGINES else one_subject(rows), language)
    if not picture.has_data:
        return []
    figure["layout"] |= {"height": HEIGHT, "margin": {"l": 60, "r": 12, "t": 24, "b": 104}}
    figure["layout"]["font"] = {**figure["layout"].get("font", {}), "size": 12}
    graph = dcc.Graph(figure=figure, config=CONFIG, style={"height": f"{HEIGHT}px"})
    return [
        html.Figure(
            [html.Figcaption(html.B(picture.title)), html.Div(graph, role="img", **parts.aria(label=picture.alt))]
        )
    ]
