"""Figures to files: interactive HTML that asks no network for anything, and PNG where a browser is installed.

Why one shared `plotly.min.js`: inlined it would be 5 MB in each of the pages, and from a CDN the pages would be blank
offline. PNGs are drawn by one headless Chromium for all figures: starting it is the slow part.

    written = write_drawings(all_drawings(rows), Path("out"), images=True)
"""

import html
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import plotly.graph_objects as go
import plotly.io
from plotly.offline import get_plotlyjs

from farm.present.alt import alt_text, title_of
from farm.present.atomic import write_atomically
from farm.present.figures import Drawing
from farm.present.words import say

PNG_SCALE = 2
LIBRARY = "figures/plotly.min.js"
_CONFIG = {"displaylogo": False, "responsive": True}
_PAGE = """<!DOCTYPE html>
<html lang="{lang}">
<head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title></head>
<body style="margin:0">
<figure style="margin:0" aria-labelledby="words">
{picture}
<figcaption id="words" style="margin:1rem;max-width:70rem;font:14px/1.5 sans-serif;color:#222">{words}</figcaption>
</figure>
</body>
</html>
"""


@dataclass(frozen=True, slots=True)
class Written:
    """Files that were written, and what could not be."""

    files: tuple[Path, ...]
    warnings: tuple[str, ...] = ()


def write_drawings(drawings: Sequence[Drawing], out: Path, images: bool = True, language: str = "en") -> Written:
    """Write every drawing below `out`. Never fails for want of a browser: that is one warning."""
    pages = [_write_page(drawing, out, language) for drawing in drawings]
    library = write_atomically(out / LIBRARY, get_plotlyjs().encode())
    pictures = _write_images(drawings, out) if images else Written(())
    return Written((*pages, library, *pictures.files), pictures.warnings)


def _write_page(drawing: Drawing, out: Path, language: str) -> Path:
    # A fixed div id: plotly's default is random, and the page would differ at every writing.
    picture = drawing.figure.to_html(
        config=_CONFIG, include_plotlyjs=f"../{LIBRARY}", div_id=drawing.name, full_html=False
    )
    page = _PAGE.format(
        lang=say(language, "html_lang"),
        title=html.escape(title_of(drawing.figure)),
        picture=picture,
        words=html.escape(alt_text(drawing.figure)),
    )
    return write_atomically(out / drawing.folder / f"{drawing.name}.html", page.encode())


def _write_images(drawings: Sequence[Drawing], out: Path) -> Written:
    """All PNGs, or none and a warning."""
    with tempfile.TemporaryDirectory() as scratch:
        aside = [Path(scratch) / f"{drawing.name}.png" for drawing in drawings]
        try:
            _render([drawing.figure for drawing in drawings], aside)
        except Exception as error:  # kaleido, choreographer and the browser each raise kinds of their own
            return Written((), (_no_images(error),))
        targets = [out / drawing.folder / f"{drawing.name}.png" for drawing in drawings]
        return Written(tuple(write_atomically(to, made.read_bytes()) for to, made in zip(targets, aside, strict=True)))


def _render(figures: Sequence[go.Figure], files: Sequence[Path]) -> None:
    # Sizes are passed on: for a list of figures plotly would take its own 700 x 500 and not the layout's.
    plotly.io.write_images(
        list(figures),
        list(files),
        scale=PNG_SCALE,
        width=[figure.layout.width for figure in figures],
        height=[figure.layout.height for figure in figures],
    )


def _no_images(error: Exception) -> str:
    first_sentence = " ".join(str(error).split()).split(". ")[0][:160] or type(error).__name__
    return (
        f"no PNG was written, only HTML ({first_sentence}); PNGs already there are of an earlier report; "
        "install chromium, or set BROWSER_PATH to one, then `farm report`"
    )
