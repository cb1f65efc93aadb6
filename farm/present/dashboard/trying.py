"""The try page: choose, run, watch the tokens come, and see what the records say in the end.

try_page(view, launcher.offered, sweep)    # the form, and containers that are filled at every tick
lane_parts(snapshot, lanes, "en")
"""

from collections.abc import Sequence

from dash import dcc, html

from farm.formulas import ratio
from farm.present.dashboard import parts
from farm.present.dashboard.form import Value, cache_words, form
from farm.present.dashboard.lanes import Figure, Lane
from farm.present.dashboard.parts import Part
from farm.present.dashboard.token_times import token_times
from farm.present.figures.points import is_trusted
from farm.present.theme import color_of
from farm.present.words import number, say
from farm.stats import Summary

LIVE = ("try-state", "try-lanes", "try-versus")


def try_page(language: str, offered: Sequence[str], values: dict[str, Value]) -> Part:
    """The page's frame."""
    start = html.Button(say(language, "try_start"), id="try-start", className="primary", n_clicks=0)
    stop = html.Button(say(language, "try_stop"), id="try-stop", n_clicks=0, hidden=True)
    again = html.Button(say(language, "try_again"), id="try-again", n_clicks=0, hidden=True)
    actions = html.Div([start, stop, again, html.Div(id="try-complaint", role="alert")], className="actions")
    lead = html.P(say(language, "try_lead"), className="hint")
    return html.Div(
        [
            html.H1(say(language, "try_title")),
            lead,
            html.Section([form(language, offered, values), actions], **parts.aria(label=say(language, "try_title"))),
            html.Div(id="try-state"),
            html.Div(id="try-lanes", className="two lanes"),
            html.Div(id="try-versus"),
            html.Div(html.Div(id="token-times"), className="figure"),
            dcc.Store(id="streams", data=[]),
            html.Div(id="played", hidden=True),
        ],
        className="page try",
    )


def lane_parts(lanes: Sequence[Lane], language: str) -> list[Part]:
    """One lane a side; the memory bars share a scale."""
    most = max((lane.memory[0].value for lane in lanes if lane.memory), default=0.0)
    return [_lane(lane, place, most, language) for place, lane in enumerate(lanes)]


def _lane(lane: Lane, place: int, most_bytes: float, language: str) -> Part:
    name = "AB"[place]
    mode = cache_words(lane.side.cache_mode, language)
    title = html.H2([f"{name} ", parts.chip(lane.side.quantization), html.Span(say(language, "lane_cache", mode=mode))])
    return html.Article(
        [
            title,
            html.P(_phase(lane, language), className=f"lane-phase {lane.phase}", role="status"),
            html.Dl([_speed(lane, language), _ttft(lane, language), *_memory(lane, most_bytes, language)]),
            *_told(lane, language),
            _text(lane, name, language),
        ],
        className="lane",
        id=f"lane-{name.lower()}",
        style={"borderTopColor": color_of(lane.side.quantization)},
    )


def _phase(lane: Lane, language: str) -> str:
    done, total = (lane.running.done, lane.running.total) if lane.running else (0, 0)
    return say(language, f"lane_{lane.phase}", done=number(done), total=number(total))


def _speed(lane: Lane, language: str) -> Part:
    return _big("speed", say(language, "lane_speed"), lane.speed, 1.0, lane, language)


def _ttft(lane: Lane, language: str) -> Part:
    return _big("ttft", say(language, "lane_ttft"), lane.ttft, 1000.0, lane, language)


def _big(name: str, label: str, figure: Figure | None, scale: float, lane: Lane, language: str) -> Part:
    """A number that is read from afar, with where it is from."""
    if figure is None:
        return html.Div([html.Dt(label), html.Dd("–", className="value")], className=f"big {name}")
    runs = lane.row.decode_tok_s.n if lane.row and lane.row.decode_tok_s else 0
    source = html.Span(say(language, f"source_{figure.source}", runs=number(runs)), className=f"source {figure.source}")
    value = html.Dd([html.Span(number(figure.value * scale), className="value"), source])
    return html.Div([html.Dt(label), value], className=f"big {name}")


def _memory(lane: Lane, most_bytes: float, language: str) -> list[Part]:
    if lane.memory is None:
        unknown = [html.Dt(say(language, "lane_memory_unknown")), html.Dd("–", className="value")]
        return [html.Div(unknown, className="big memory")]
    figure, measure = lane.memory
    label = say(language, f"lane_memory_{measure}")
    bar = parts.meter(round(figure.value), round(most_bytes), label, color_of(lane.side.quantization))
    value = html.Dd([html.Span(parts.gigabytes(figure.value), className="value"), bar])
    return [html.Div([html.Dt(label), value], className="big memory")]


def _told(lane: Lane, language: str) -> list[Part]:
    """What the record says beyond the three numbers."""
    row = lane.row
    if row is None:
        return []
    if not row.is_ok:
        return [html.P(f"{row.status.value}: {row.reason or ''}", className="hint bad")]
    told = [_interval(row.decode_tok_s, language), say(language, "lane_verdict", verdict=row.trust.verdict or "–")]
    if lane.perplexity is not None:
        told.append(f"{say(language, 'lane_ppl')} {number(lane.perplexity)}")
    return [html.P(" · ".join(one for one in told if one), className="told")]


def _interval(summary: Summary | None, language: str) -> str:
    if summary is None or summary.ci_low is None or summary.ci_high is None:
        return ""
    return say(language, "lane_interval", low=number(summary.ci_low), high=number(summary.ci_high))


def _text(lane: Lane, name: str, language: str) -> Part:
    """The text so far; while it is played again a script writes into the empty box beside it."""
    written = lane.stream.text if lane.stream else ""
    words = html.P(written or say(language, "lane_no_text"), className="written" if written else "written quiet")
    label = parts.aria(label=f"{say(language, 'lane_text')} ({name})")
    caret = "stream writing" if lane.phase == "showing" else "stream"
    return html.Div([words, html.P(id=f"again-{name.lower()}")], className=caret, tabIndex="0", role="group", **label)


def versus(lanes: Sequence[Lane], language: str) -> Part:
    """The second side against the first, from their records alone."""
    if len(lanes) < 2:
        return []
    first, second = lanes[0], lanes[1]
    if first.row is None or second.row is None or not (first.row.is_ok and second.row.is_ok):
        waits = html.P(say(language, "versus_waits"), className="hint")
        return parts.section("versus", say(language, "versus_title"), waits)
    items = [html.Li(words) for words in _ratios(first, second, language)]
    body: list[Part] = [html.Ul(items, className="ratios")]
    if not (is_trusted(first.row) and is_trusted(second.row)):
        body.append(html.P(say(language, "versus_suspect"), className="hint"))
    return parts.section("versus", say(language, "versus_title"), html.Div(body))


def _ratios(first: Lane, second: Lane, language: str) -> list[str]:
    pairs = (
        ("speed", first.speed, second.speed),
        ("ttft", first.ttft, second.ttft),
        ("memory", first.memory and first.memory[0], second.memory and second.memory[0]),
    )
    found = [(name, ratio(own.value, base.value)) for name, base, own in pairs if base and own]
    return [say(language, f"versus_{name}", ratio=number(value)) for name, value in found if value is not None]


def streams_of(lanes: Sequence[Lane]) -> list[dict[str, object]]:
    """What a script needs to play both again: each piece of text and the second it came."""
    return [{"pieces": [list(piece) for piece in lane.stream.pieces] if lane.stream else []} for lane in lanes]


def token_part(lanes: Sequence[Lane], language: str) -> Part:
    """Each token's time on both sides: flat with the cache, growing without."""
    if not any(lane.stream and len(lane.stream.gaps_s) > 2 for lane in lanes):
        return []
    graph = dcc.Graph(
        id="token-graph", figure=token_times(lanes, language), config={"displayModeBar": False, "responsive": True}
    )
    hint = html.P(say(language, "tokens_hint"), className="hint")
    return parts.section("tokens", say(language, "tokens_title"), html.Div([hint, graph]))
