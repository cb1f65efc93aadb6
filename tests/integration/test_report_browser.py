"""report.html in a real browser: it opens at once, draws, sorts, filters, and no request leaves it.

Needs playwright (its Python package; the browser is the machine's chromium): `BROWSER_PATH` says where another one is.
"""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from farm.present.figures.gantt_bars import parse_events
from farm.present.report import write_outputs
from farm.reduce import cell_rows
from tests.unit import rich_records as rich

pytestmark = pytest.mark.browser
CELLS = 1000
OPEN_S = 2.0


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("large")
    records = rich.large_sweep(CELLS)
    write_outputs(records, out, images=False, sweep="large", events=parse_events(rich.event_log(records)))
    return out / "report.html"


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    """A page that remembers what it complained of and what it asked for."""
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.complaints, page.asked = [], []
    page.on("console", lambda message: page.complaints.append(message.text))
    page.on("pageerror", lambda error: page.complaints.append(str(error)))
    page.on("request", lambda request: page.asked.append(request.url))
    yield page
    page.close()


def scroll_through(page: Any) -> None:
    for y in range(0, page.evaluate("document.documentElement.scrollHeight"), 600):
        page.evaluate(f"window.scrollTo(0, {y})")
        page.wait_for_timeout(60)


def test_a_thousand_cells_open_in_two_seconds(page: Any, report: Path) -> None:
    page.goto("about:blank")
    began = time.monotonic()
    page.goto(report.as_uri(), wait_until="load")
    opened_s = time.monotonic() - began
    page.wait_for_selector(".main-svg")
    drawn_s = time.monotonic() - began
    print(f"\n{CELLS} cells, {report.stat().st_size / 1e6:.1f} MB: open {opened_s:.2f} s, a figure {drawn_s:.2f} s")
    assert opened_s < OPEN_S


@pytest.mark.parametrize("width", [1280, 390])
def test_everything_is_drawn_without_complaint_or_request(page: Any, report: Path, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 900})
    page.goto(report.as_uri())
    page.wait_for_selector(".main-svg")
    scroll_through(page)
    page.wait_for_function("[...document.querySelectorAll('.plot')].every((plot) => plot.querySelector('.main-svg'))")
    assert page.evaluate("document.documentElement.scrollWidth") == width  # the page itself never scrolls sideways
    assert page.complaints == []
    assert page.asked == [report.as_uri()]


def test_the_published_page_draws_with_the_figures_copy_of_plotly(page: Any) -> None:
    published = Path("benchmarks/report.html").absolute()
    assert published.stat().st_size < 1_000_000
    page.goto(published.as_uri())
    page.wait_for_selector(".main-svg")
    assert page.complaints == []
    assert page.asked == [published.as_uri(), Path("figures/plotly.min.js").absolute().as_uri()]


def test_what_plotly_holds_is_what_the_rows_say(page: Any, report: Path) -> None:
    page.goto(report.as_uri())
    page.wait_for_selector("#plot-kv_cache_gain .main-svg")
    rows = cell_rows(rich.large_sweep(CELLS))
    own = [r for r in rows if (r.model_id, r.batch_size, r.cache_mode) == (rows[0].model_id, 1, "on")]
    wanted = [r.cache_speedup for r in own if r.quantization == "fp16"]
    find = "(trace) => trace.name === 'FP16, cache on'"
    assert page.evaluate(f"document.getElementById('plot-kv_cache_gain').data.find({find}).y") == wanted


def test_the_table_filters_and_sorts_by_keyboard(page: Any, report: Path) -> None:
    page.goto(report.as_uri())
    page.focus("#filter")
    page.keyboard.type("nf4 2048 on")
    shown = page.locator("#all-cells tbody tr:visible")
    rows = [r for r in cell_rows(rich.large_sweep(CELLS)) if r.kind == "speed"]
    wanted = [r for r in rows if (r.quantization, r.context_tokens, r.cache_mode) == ("nf4", 2048, "on")]
    assert shown.count() == len(wanted)
    assert page.inner_text("#shown") == f"{len(wanted)} of 1,000 cells"
    button = page.locator("#all-cells thead button", has_text="Decode tok/s")
    button.focus()
    page.keyboard.press("Enter")
    page.keyboard.press("Enter")
    speeds = [
        float(value) for value in shown.locator("td:nth-child(8)").evaluate_all("tds => tds.map(t => t.dataset.v)")
    ]
    assert speeds == sorted((r.decode_tok_s.median for r in wanted if r.decode_tok_s), reverse=True)
    assert button.locator("..").get_attribute("aria-sort") == "descending"


def test_the_status_filter_shows_the_failures(page: Any, report: Path) -> None:
    page.goto(report.as_uri())
    page.select_option("#status", "status:oom")
    failed = [r for r in cell_rows(rich.large_sweep(CELLS)) if not r.is_ok]
    assert page.locator("#all-cells tbody tr:visible").count() == len(failed) > 0


def test_the_first_tab_stop_skips_to_the_answers(page: Any, report: Path) -> None:
    page.goto(report.as_uri())
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "answers"
