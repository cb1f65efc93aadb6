"""How every figure looks: one colour a precision everywhere, readable by colour-blind people and on a projector.

Why one place: a reader who learned that orange is INT8 must never meet another orange. The colours are those of Okabe
and Ito, "Color Universal Design" (2008); marker shapes repeat the same information for black-and-white print.

    color_of("int8")    # '#E69F00'
"""

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
_COLORS = {"fp32": "#8C8C8C", "fp16": "#0072B2", "bf16": "#56B4E9", "int8": "#E69F00", "nf4": "#D55E00"}
_SPARE_COLORS = ("#009E73", "#CC79A7", "#F0E442", "#000000")
_SYMBOLS = ("diamond", "circle", "square", "triangle-up", "triangle-down", "pentagon", "hexagon", "star", "hourglass")


def color_of(quantization: str) -> str:
    """The precision's colour; precisions added later take the spare ones in the catalog's order."""
    if quantization in _COLORS:
        return _COLORS[quantization]
    later = [name for name in catalog.PRECISIONS if name not in _COLORS]
    place = later.index(quantization) if quantization in later else len(later)
    return _SPARE_COLORS[place % len(_SPARE_COLORS)]


def symbol_of(quantization: str) -> str:
    """The precision's marker shape."""
    names = list(catalog.PRECISIONS)
    return _SYMBOLS[names.index(quantization) % len(_SYMBOLS)] if quantization in names else "cross"


def title_of(quantization: str) -> str:
    """`INT8 (bitsandbytes)`; a name that the catalog does not know stands for itself."""
    precision = catalog.PRECISIONS.get(quantization)
    return precision.title if precision else quantization


def short_title_of(quantization: str) -> str:
    """`INT8`: the title without the backend in brackets."""
    return title_of(quantization).split(" (")[0]


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
