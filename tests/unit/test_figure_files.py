"""Figure files: offline pages with the same bytes every time, PNGs by one browser, and no failure without one."""

import re
from pathlib import Path

import plotly.graph_objects as go
import pytest

from farm.present import figure_files
from farm.present.figure_files import write_drawings
from farm.present.figures import FOLDERS, all_drawings
from farm.reduce import cell_rows
from tests.unit import record_builder as build

ROWS = cell_rows(build.with_failures(build.sweep()))


def test_pages_are_offline_and_byte_identical(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_drawings(all_drawings(ROWS), tmp_path / name, images=False)
    pages = sorted((tmp_path / "one").rglob("*.html"))
    assert len(pages) == len(FOLDERS)
    for page in pages:
        assert page.read_bytes() == (tmp_path / "two" / page.relative_to(tmp_path / "one")).read_bytes()
        sources = re.findall(r'(?:src|href)="([^"]+)"', page.read_text())
        assert sources == ["../figures/plotly.min.js"]
        assert (page.parent / sources[0]).stat().st_size > 1_000_000


def test_without_a_browser_there_is_html_and_one_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_browser(*_: object, **__: object) -> None:
        raise RuntimeError("Kaleido requires Google Chrome to be installed")

    monkeypatch.setattr(figure_files.plotly.io, "write_images", no_browser)
    written = write_drawings(all_drawings(ROWS), tmp_path)
    assert not list(tmp_path.rglob("*.png"))
    assert len(list(tmp_path.rglob("*.html"))) == len(FOLDERS)
    (warning,) = written.warnings
    assert "Google Chrome" in warning and "install chromium" in warning


def test_all_images_are_drawn_by_one_browser_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []

    def write_images(figures: list[go.Figure], files: list[Path], **options: object) -> None:
        calls.append(len(figures))
        assert options["scale"] == 2
        assert options["width"] == [figure.layout.width for figure in figures]
        for file in files:
            file.write_bytes(b"png")

    monkeypatch.setattr(figure_files.plotly.io, "write_images", write_images)
    written = write_drawings(all_drawings(ROWS), tmp_path)
    assert calls == [len(FOLDERS)] and written.warnings == ()
    assert len(list(tmp_path.rglob("*.png"))) == len(FOLDERS)


def test_a_page_tells_its_figure_in_words(tmp_path: Path) -> None:
    write_drawings(all_drawings(ROWS), tmp_path, images=False)
    page = (tmp_path / "figures" / "tokens_s_vs_length.html").read_text()
    row = next(r for r in ROWS if (r.quantization, r.context_tokens, r.cache_mode) == ("nf4", 2048, "on"))
    assert row.decode_tok_s is not None
    caption = re.search(r'<figcaption id="words"[^>]*>(.*?)</figcaption>', page, re.S)
    assert caption and f"{row.decode_tok_s.median:.4g} (2,048)" in caption.group(1)
    assert '<html lang="en">' in page and 'aria-labelledby="words"' in page
    assert "<title>Decode throughput, KV cache on</title>" in page


def test_figures_speak_spanish(tmp_path: Path) -> None:
    write_drawings(all_drawings(ROWS, language="es"), tmp_path, images=False, language="es")
    page = (tmp_path / "benchmarks" / "latency_vs_context.html").read_text()
    assert '<html lang="es">' in page
    assert "Contexto (tokens del prompt)" in page and "Context (prompt tokens)" not in page


@pytest.mark.browser
def test_a_real_browser_draws_a_real_png(tmp_path: Path) -> None:
    drawings = all_drawings(ROWS)[:2]
    written = write_drawings(drawings, tmp_path)
    assert written.warnings == ()
    for drawing in drawings:
        data = (tmp_path / drawing.folder / f"{drawing.name}.png").read_bytes()
        assert data.startswith(b"\x89PNG") and len(data) > 20_000
        assert int.from_bytes(data[16:20], "big") == 2 * drawing.figure.layout.width  # the IHDR chunk's width
