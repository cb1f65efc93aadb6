"""The try page's form: native radio buttons, so that a keyboard and a screen reader know them.

form("en", offered, values)    # `values`: what is chosen at first, by field
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

from dash import dcc, html

from farm.catalog import CACHE_MODES, PRECISIONS
from farm.model_ref import parse_model
from farm.present.dashboard.choices import CONTEXTS, ENGINES, NEW_TOKENS, RUNS, sides_of
from farm.present.dashboard.parts import Part
from farm.present.theme import title_of
from farm.present.words import number, say
from farm.sweep import Sweep

Value = str | int
SHARED = ("model", "engine", "context", "new_tokens", "runs", "quality", "both")
SIDES = ("a_quantization", "a_cache", "b_quantization", "b_cache")
FIELDS = (*SHARED, *SIDES)


def first_values(offered: Sequence[str], sweep: Sweep | None) -> dict[str, Value]:
    """The choice of the run that is shown, or the mission's own comparison for this machine."""
    if sweep is None:
        plain = "fp16" if any(Path("/dev").glob("nvidia[0-9]*")) else "fp32"  # 16 bit crawls on most CPUs
        usual: tuple[Value, ...] = (offered[0], "eager", 128, 64, 3, "off", "on", plain, "off", "nf4", "on")
        return dict(zip(FIELDS, usual, strict=True))
    sides = sides_of(sweep)
    first, second = sides[0], sides[-1]
    engine = sweep.engines[0] if sweep.engines[0] in ENGINES else ENGINES[0]
    counts = (sweep.contexts[0], sweep.new_tokens, sweep.runs)
    switches = ("on" if sweep.quality else "off", "on" if len(sides) == 2 else "off")
    chosen = (first.quantization, first.cache_mode, second.quantization, second.cache_mode)
    return dict(zip(FIELDS, (sweep.models[0], engine, *counts, *switches, *chosen), strict=True))


def form(language: str, offered: Sequence[str], values: dict[str, Value]) -> Part:
    """Everything that can be chosen, the two sides beside each other."""
    models = [(name, parse_model(name).short) for name in dict.fromkeys((*offered, str(values["model"])))]
    shared = [
        _field(language, "model", models, values),
        _field(language, "engine", _plain(ENGINES), values),
        _field(language, "context", _numbers(CONTEXTS), values),
        _field(language, "new_tokens", _numbers(NEW_TOKENS), values),
        _field(language, "runs", _numbers(RUNS), values),
        _field(language, "quality", _said(language, off="choice_without", on="choice_with"), values),
        _field(language, "both", _said(language, on="choice_two", off="choice_one"), values),
    ]
    sides = [_side(language, side, values) for side in ("a", "b")]
    return html.Div([html.Div(shared, className="shared"), html.Div(sides, className="two")], className="form")


def _side(language: str, side: str, values: dict[str, Value]) -> Part:
    precisions = [(name, title_of(name)) for name in PRECISIONS]
    return html.Div(
        [
            html.H3(say(language, f"try_side_{side}")),
            _field(language, f"{side}_quantization", precisions, values),
            _field(language, f"{side}_cache", [(mode, cache_words(mode, language)) for mode in CACHE_MODES], values),
        ],
        className="side",
        id=f"side-{side}",
    )


def cache_words(mode: str, language: str) -> str:
    """`on` and `off` in the page's language; other modes are names."""
    return say(language, f"choice_{mode}") if mode in ("on", "off") else mode


def _field(language: str, name: str, options: Iterable[tuple[Value, str]], values: dict[str, Value]) -> Part:
    choices = [{"label": label, "value": value} for value, label in options]
    legend = html.Legend(say(language, f"try_{name.removeprefix('a_').removeprefix('b_')}"))
    radio = dcc.RadioItems(choices, values[name], id=f"choose-{name}", className="pills", inline=True)
    return html.Fieldset([legend, radio], className=f"field {name}")


def _plain(names: Iterable[str]) -> list[tuple[Value, str]]:
    return [(name, name) for name in names]


def _numbers(values: Iterable[int]) -> list[tuple[Value, str]]:
    return [(value, number(value)) for value in values]


def _said(language: str, **names: str) -> list[tuple[Value, str]]:
    return [(value, say(language, name)) for value, name in names.items()]
