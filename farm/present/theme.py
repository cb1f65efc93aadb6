"""How every figure looks: one colour a precision everywhere, readable by colour-blind people and on a projector.

Why one place: a reader who learned that orange is INT8 must never meet another orange. The colours are those of Okabe
and Ito, "Color Universal Design" (2008), and behind them dark ones of Paul Tol, "Colour Schemes", SRON/EPS/TN/09-002
(2021); marker shapes repeat the same information for black-and-white print.

    color_of("int8")    # '#E69F00'

A precision may carry options, `gptq?group_size=64`: the colour is that of the family before the `?`, the marker tells
the options apart. Dashes tell engines or cache modes apart. A hollow marker is a row whose verdict is not valid.
"""

import hashlib
from collections.abc import Sequence

import plotly.graph_objects as go

from farm import catalog

FONT = "Liberation Sans, Arial, Helvetica, sans-serif"
BLACK = "#000000"
INK = "#222222"
FAINT = "#6B6B6B"
GRID = "#E3E3E3"
PAPER = "#FFFFFF"
GOOD = "#BFE6D8"
BAD = "#F6CDB8"
WARN = "#FBEDA6"
HEADER = "#24364B"

# FP32 is Okabe-Ito's black softened to gray, so that bars of it do not shout.
_COLORS = {
    "fp32": "#8C8C8C",
    "fp16": "#0072B2",
    "bf16": "#56B4E9",
    "int8": "#E69F00",
    "nf4": "#D55E00",
    "gptq": "#009E73",
    "awq": "#CC79A7",
    "hqq": "#332288",
    "int8wo": "#997700",
    "int4wo": "#882255",
    "fp4": "#661100",
}
_SPARE_COLORS = ("#117733", "#AA4499", "#44AA99", "#000000")
_SYMBOLS = {
    "fp32": "diamond",
    "fp16": "circle",
    "bf16": "square",
    "int8": "triangle-up",
    "nf4": "triangle-down",
    "gptq": "pentagon",
    "awq": "hexagon",
    "hqq": "star",
    "int8wo": "triangle-left",
    "int4wo": "triangle-right",
    "fp4": "hourglass",
}
_OPTION_SYMBOLS = ("cross", "x", "diamond-tall", "diamond-wide", "hexagram", "star-diamond", "bowtie", "octagon")

_CACHE_DASHES = {
    "on": "solid",
    "off": "dash",
    "static": "dashdot",
    "fp8": "dot",
    "int8": "longdash",
    "int4": "longdashdot",
    "offloaded": "2px 6px",
}
_ENGINE_DASHES = {"eager": "solid", "fake": "solid", "compiled": "dash", "turbo": "dot"}
_SPARE_DASHES = ("12px 3px", "3px 3px 9px 3px", "1px 4px")


def family_of(quantization: str) -> str:
    """`gptq` of `gptq?group_size=64`: what colour and place in the order go by."""
    return quantization.partition("?")[0]


def color_of(quantization: str) -> str:
    """The family's colour; an unknown one takes a spare colour that its name alone decides, so it is stable."""
    family = family_of(quantization)
    return _COLORS.get(family) or _stable(family, _SPARE_COLORS)


def symbol_of(quantization: str) -> str:
    """The marker shape: the family's, or with options one that the options decide."""
    family, _, options = quantization.partition("?")
    if options:
        return _stable(options, _OPTION_SYMBOLS)
    return _SYMBOLS.get(family, "cross")


def dash_of_cache(mode: str) -> str:
    """The line's dash of a cache mode."""
    return _CACHE_DASHES.get(mode) or _stable(mode, _SPARE_DASHES)


def dash_of_engine(engine: str) -> str:
    """The line's dash of an engine, where several share a pair of axes."""
    return _ENGINE_DASHES.get(engine) or _stable(engine, _SPARE_DASHES)


def _stable(name: str, choices: Sequence[str]) -> str:
    # Not hash(): Python salts it, and two reports of one run would differ.
    return choices[hashlib.sha256(name.encode()).digest()[0] % len(choices)]


def title_of(quantization: str) -> str:
    """`INT8 (bitsandbytes)`; with options behind it; a name that nobody knows stands for itself."""
    family, _, options = quantization.partition("?")
    precision = catalog.PRECISIONS.get(family)
    title = precision.title if precision else family
    return f"{title} {options.replace('&', ' ')}".rstrip()


def short_title_of(quantization: str) -> str:
    """`INT8`: the title without the backend in brackets; options stay, they tell two rows apart."""
    options = quantization.partition("?")[2].replace("&", " ")
    return f"{title_of(family_of(quantization)).split(' (')[0]} {options}".rstrip()


def ink_on(background: str) -> str:
    """Black or white, whichever contrasts more with a `#RRGGBB` background."""
    return max((BLACK, PAPER), key=lambda ink: contrast(ink, background))


def contrast(one: str, other: str) -> float:
    """WCAG 2.2's contrast ratio, 1 to 21: (lighter + 0.05) / (darker + 0.05) of the relative luminances."""
    darker, lighter = sorted((_luminance(one), _luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


def _luminance(color: str) -> float:
    channels = [int(color[start : start + 2], 16) / 255 for start in (1, 3, 5)]
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def tint(color: str, strength: float) -> str:
    """`color` mixed with white: strength 1 is the colour, 0 is white."""
    channels = [int(color[start : start + 2], 16) for start in (1, 3, 5)]
    return "#" + "".join(f"{round(255 - (255 - channel) * strength):02X}" for channel in channels)


def cross(quantization: str, status: str) -> str:
    """The mark of a failed point: a cross in the precision's colour, the status in ink that reads on white."""
    return f"<b style='color:{color_of(quantization)}'>✕</b> {status}"


def log_axis(levels: Sequence[float]) -> dict[str, object]:
    """A logarithmic axis whose ticks can be read at the span of what it shows."""
    span = max(levels) / min(levels) if levels else 10.0
    if span < 2:
        return {"type": "log", "tickformat": "~g"}  # plotly chooses: digits of a decade would be one tick or two
    # plotly's words: D1 labels every digit of a decade, D2 only 1, 2 and 5.
    return {"type": "log", "dtick": "D1" if span < 10 else "D2", "tickformat": "~g"}


def dress(figure: go.Figure, title: str, subtitle: str = "", height: int = 620, width: int = 1180) -> go.Figure:
    """Titles, fonts, margins and the legend on the right: the same frame around every figure."""
    below = f"<br><span style='font-size:14px;color:{FAINT}'>{subtitle}</span>" if subtitle else ""
    figure.update_layout(
        template="plotly_white",
        title={"text": f"<b>{title}</b>{below}", "x": 0, "xref": "paper", "y": 1 - 40 / height},
        font={"family": FONT, "size": 14, "color": INK},
        title_font_size=21,
        width=width,
        height=height,
        margin={"l": 80, "r": 40, "t": 120, "b": 70},
        legend={"x": 1.01, "y": 1, "xanchor": "left", "yanchor": "top", "tracegroupgap": 14, "traceorder": "grouped"},
        paper_bgcolor=PAPER,
        plot_bgcolor=PAPER,
    )
    figure.update_xaxes(gridcolor=GRID, linecolor=INK, ticks="outside", automargin=True)
    figure.update_yaxes(gridcolor=GRID, linecolor=INK, ticks="outside", automargin=True)
    return figure


def blank(title: str, reason: str) -> go.Figure:
    """A figure with nothing to draw, that says why."""
    figure = go.Figure()
    figure.add_annotation(
        text=f"Nothing to draw: {reason}", showarrow=False, x=0.5, y=0.5, xref="paper", yref="paper", font_size=18
    )
    figure.update_xaxes(visible=False)
    figure.update_yaxes(visible=False)
    return dress(figure, title)
