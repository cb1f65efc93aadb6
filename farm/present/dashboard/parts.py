"""Small pieces of a page: chips, facts, meters, spans of time. Components only; what they say is handed in.

chip("int8")    # the precision's name on the precision's colour, in ink that reads on it
"""

import hashlib
from collections.abc import Sequence
from typing import Any

from dash import html, no_update

from farm.present.theme import color_of, ink_on, short_title_of
from farm.present.words import number, say

Part = Any  # a Dash component, a text, or a list of them


def aria(**attributes: object) -> dict[str, Any]:
    """`aria(label="x")` for a component's keyword arguments; numbers as text, as HTML has them."""
    return {f"aria-{name}": str(value) for name, value in attributes.items() if value is not None}


def data(**attributes: object) -> dict[str, Any]:
    """`data(key="x")` likewise: what a script in the page reads."""
    return {f"data-{name}": str(value) for name, value in attributes.items()}


def chip(quantization: str) -> Part:
    """The same colour as in every figure."""
    color = color_of(quantization)
    return html.Span(
        short_title_of(quantization), className="chip", style={"backgroundColor": color, "color": ink_on(color)}
    )


def fact(name: str, value: Part, extra: str = "") -> Part:
    """A name over its value."""
    return html.Div([html.Dt(name), html.Dd(value)], className=f"fact {extra}".strip())


def facts(pairs: Sequence[tuple[str, Part]]) -> Part:
    return html.Dl([fact(name, value) for name, value in pairs], className="facts")


def meter(done: int, total: int, label: str, color: str | None = None) -> Part:
    """How far something is; the words beside it say the same."""
    share = 100 * done / total if total else 0
    filled = html.Div(className="filled", style={"width": f"{share:.1f}%"} | ({"background": color} if color else {}))
    return html.Div(
        filled,
        className="meter",
        role="progressbar",
        **aria(valuenow=done, valuemin=0, valuemax=total, label=label),
    )


def section(identity: str, title: str, children: Part) -> Part:
    """A titled part of the page; `children` may be a placeholder that is filled later."""
    head = html.H2(title, id=f"{identity}-title")
    return html.Section([head, children], id=identity, **aria(labelledby=f"{identity}-title"))


def span(seconds: float, language: str) -> str:
    """`42 s`, `3 min 20 s`, `2 h 5 min`."""
    whole = max(0, round(seconds))
    if whole < 60:
        return say(language, "span_s", s=whole)
    if whole < 3600:
        return say(language, "span_min", m=whole // 60, s=whole % 60)
    return say(language, "span_h", h=whole // 3600, m=whole % 3600 // 60)


def milliseconds(seconds: float) -> str:
    return number(seconds * 1000)


def gigabytes(size: float) -> str:
    """In GB of 1e9 bytes, as everywhere; small ones to the megabyte."""
    return f"{size / 1e9:,.2f}" if size >= 1e8 else f"{size / 1e9:.3f}"


def only_changed(filled: dict[str, Part], seen: object) -> tuple[list[Part], dict[str, str]]:
    """The parts that a page does not show yet, `no_update` for the others; and the digest of each."""
    known = seen if isinstance(seen, dict) else {}
    digests = {name: hashlib.sha256(repr(part).encode()).hexdigest()[:16] for name, part in filled.items()}
    return [no_update if known.get(name) == digests[name] else part for name, part in filled.items()], digests
