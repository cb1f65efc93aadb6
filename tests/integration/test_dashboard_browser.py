"""The dashboard in a real browser, against real driver processes: what a page shows is what the records say.

Needs playwright and chromium like test_report_browser; the film also ffmpeg.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from cluster.inline import InlinePool
from cluster.run import run_sweep
from farm.cli import main
from farm.present.dashboard import recording
from farm.present.dashboard.choices import choice_of, sweep_of
from farm.present.dashboard.form import first_values
from farm.present.dashboard.library import Library
from farm.present.dashboard.processes import launched, process_alive
from farm.present.dashboard.reading import RunReader
from farm.present.dashboard.scenes import film_of
from farm.present.words import number
from farm.reduce import cell_rows
from farm.rows import CellRow
from farm.stats import Summary
from farm.store import RunFolder

pytestmark = pytest.mark.browser
FAKE = "fake:slow"  # each generation begins with 0.2 s of sleep: a try takes seconds
LONG_MS = 120_000
ENDED = "#try-again:not([hidden])"

# WCAG 2.2, 1.4.3: every text against what is painted behind it; the elements that fall short.
CONTRAST = """() => {
  const parse = (text) => text.match(/[\\d.]+/g).map(Number);
  const light = (rgb) => {
    const linear = (c) => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
    const [r, g, b] = rgb.slice(0, 3).map((c) => linear(c / 255));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (element) => {
    for (let one = element; one; one = one.parentElement) {
      const paint = parse(getComputedStyle(one).backgroundColor);
      if (paint.length < 4 || paint[3] > 0.99) return paint;
    }
    return [255, 255, 255];
  };
  const poor = [];
  for (const element of document.querySelectorAll("header *, main *")) {
    const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
    const style = getComputedStyle(element), box = element.getBoundingClientRect();
    if (!own || !box.width || style.visibility === "hidden" || element.closest("svg, :disabled, .unseen")) continue;
    const [a, b] = [light(parse(style.color)), light(behind(element))].sort((x, y) => y - x);
    const size = parseFloat(style.fontSize), bold = Number(style.fontWeight) >= 600;
    const needed = size >= 24 || (bold && size >= 18.66) ? 3 : 4.5;
    const ratio = (a + 0.05) / (b + 0.05);
    if (ratio < needed) poor.push(`${element.className} ${element.textContent.slice(0, 30)}: ${ratio.toFixed(2)}`);
  }
  return poor;
}"""


@dataclass(frozen=True, slots=True)
class Board:
    """A dashboard at work over a folder of runs."""

    url: str
    runs: Path


def finished_run(folder: Path, model: str = "fake:steady") -> None:
    sweep = sweep_of(choice_of(dict(first_values((model,), None)) | {"quality": "on"}, (model,)), "cpu")
    run_sweep(sweep, RunFolder(folder), InlinePool("cpu"), show=True)


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Board]:
    runs = tmp_path_factory.mktemp("runs")
    finished_run(runs / "done")
    words = ["dashboard", str(runs), "--port", "0", "--pool", "inline", "--model", FAKE]
    server = subprocess.Popen([sys.executable, "-m", "farm", *words], stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    found = re.search(r"http://\S+/", server.stdout.readline())
    assert found is not None
    yield Board(found[0], runs)
    server.terminate()
    server.wait()


class Pages:
    """Opens pages that remember what they complained of and what they asked for."""

    def __init__(self, browser: Any) -> None:
        self.browser = browser
        self.opened: list[Any] = []
        self.complaints: list[str] = []
        self.asked: list[str] = []

    def open(self, url: str, width: int = 1280) -> Any:
        page = self.browser.new_page(viewport={"width": width, "height": 900})
        page.on("console", lambda message: self.complaints.append(message.text))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("request", lambda request: self.asked.append(request.url))
        page.goto(url)
        self.opened.append(page)
        return page

    def assert_quiet(self, board: Board) -> None:
        assert self.complaints == []
        assert [url for url in self.asked if not url.startswith((board.url, "data:", "blob:"))] == []


@pytest.fixture
def pages(browser: Any, board: Board) -> Iterator[Pages]:
    pages = Pages(browser)
    yield pages
    for page in pages.opened:
        page.close()
    for left in (board.runs / "try").glob("*/launch.json"):  # what a failed test left at work would fail the next
        launch = launched(left.parent)
        if launch is not None and process_alive(launch):
            os.kill(launch.pid, signal.SIGTERM)
            wait_for_process(left.parent)


def choose(page: Any, **wanted: str) -> None:
    for name, label in wanted.items():
        page.locator(f"#choose-{name} label", has_text=re.compile(f"^\\s*{re.escape(label)}\\s*$")).click()


def start(page: Any) -> str:
    """Press Run by the keyboard; the run's name."""
    page.focus("#try-start")
    page.keyboard.press("Enter")
    page.wait_for_selector("#lane-a", timeout=LONG_MS)
    return str(page.evaluate("new URLSearchParams(location.search).get('run')"))


def rows_of(folder: Path) -> list[CellRow]:
    return [row for row in cell_rows(RunFolder(folder).results()) if row.kind == "speed"]


def shown(page: Any, lane: str, figure: str) -> str:
    return str(page.inner_text(f"#lane-{lane} .{figure} .value"))


def assert_lane_is_the_record(page: Any, lane: str, row: CellRow) -> None:
    assert isinstance(row.decode_tok_s, Summary)
    assert isinstance(row.ttft_s, Summary)
    assert shown(page, lane, "speed") == number(row.decode_tok_s.median)
    assert shown(page, lane, "ttft") == number(row.ttft_s.median * 1000)


def wait_for_process(folder: Path) -> None:
    """Until the driver that a page started is gone."""
    until = time.monotonic() + LONG_MS / 1000
    while RunReader(folder).look().is_running:
        assert time.monotonic() < until
        time.sleep(0.1)


def test_two_watch_one_run_one_reloads_one_leaves_and_nothing_is_lost(pages: Pages, board: Board) -> None:
    first = pages.open(f"{board.url}try")
    first.wait_for_selector("#try-start")
    choose(first, model="fake slow", new_tokens="32", runs="10")
    run = start(first)
    second = pages.open(f"{board.url}try?run={run}")
    watcher = pages.open(f"{board.url}?run={run}")
    second.wait_for_selector("#lane-a .lane-phase.showing, #lane-a .lane-phase.measuring", timeout=LONG_MS)
    second.reload()
    second.wait_for_selector("#lane-a")
    watcher.wait_for_selector(".state.running", timeout=LONG_MS)
    first.close()  # the page that started it
    second.wait_for_selector(ENDED, timeout=LONG_MS)
    wait_for_process(board.runs / run)
    by_cache = {row.cache_mode: row for row in rows_of(board.runs / run)}
    assert_lane_is_the_record(second, "a", by_cache["off"])
    assert_lane_is_the_record(second, "b", by_cache["on"])
    watcher.wait_for_selector(".state.done", timeout=LONG_MS)
    assert watcher.inner_text(".facts dd >> nth=0") == "2 of 2"
    second.click("#try-again")
    second.wait_for_selector("#again-a:not(:empty)")
    pages.assert_quiet(board)


def test_a_second_try_waits_and_stop_ends_the_first(pages: Pages, board: Board) -> None:
    first = pages.open(f"{board.url}try")
    first.wait_for_selector("#try-start")
    choose(first, model="fake slow", runs="10")
    run = start(first)
    other = pages.open(f"{board.url}try")
    other.wait_for_selector("#try-start")
    other.click("#try-start")
    other.wait_for_selector("#try-complaint a")
    assert run in other.inner_text("#try-complaint")
    first.click("#try-stop")
    first.wait_for_selector("#try-state .bad", timeout=LONG_MS)
    wait_for_process(board.runs / run)
    pages.assert_quiet(board)


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("path", ["?run=done", "try", "demo?run=done&lang=es"])
def test_every_page_fits_reads_and_is_silent(pages: Pages, board: Board, path: str, width: int) -> None:
    page = pages.open(board.url + path, width)
    page.wait_for_selector("#grid .box, #try-start, .stage.on")
    if "run=done" in path:
        page.wait_for_selector(".main-svg", state="attached")
    assert page.evaluate("document.documentElement.scrollWidth") == width  # the page itself never scrolls sideways
    assert page.evaluate(CONTRAST) == []
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    pages.assert_quiet(board)


def test_the_grid_and_the_figure_show_the_rows(pages: Pages, board: Board) -> None:
    page = pages.open(f"{board.url}?run=done")
    page.wait_for_selector("#figure .main-svg")
    speeds = page.locator("#grid td.box").all_inner_texts()
    for row in rows_of(board.runs / "done"):
        assert row.decode_tok_s is not None
        assert number(row.decode_tok_s.median) in speeds
    page.focus("#figure-choice input:checked")
    page.keyboard.press("ArrowRight")
    page.wait_for_selector("#figure figcaption b:has-text('erplex')")
    pages.assert_quiet(board)


def test_the_demo_plays_to_its_end_with_the_numbers_of_the_run(pages: Pages, board: Board) -> None:
    page = pages.open(f"{board.url}demo?run=done&play=1&pace=50")
    page.wait_for_selector("body[data-demo='done']", timeout=LONG_MS)
    reader = RunReader(board.runs / "done")
    snapshot = reader.look()
    film = film_of(reader.rows(snapshot), snapshot.now, "try", "en")
    assert page.locator(".stage").count() == len(film) == 5
    wanted = [one.value for scene in film for one in scene.numbers]
    assert page.locator(".numbers .value").all_text_contents() == wanted
    assert page.locator(".stage.end .captions p.said").count() == len(film[-1].sentences)
    pages.assert_quiet(board)


def test_the_film_is_a_video_of_the_demo_with_captions(browser: Any, board: Board, tmp_path: Path) -> None:
    if not shutil.which("ffmpeg"):
        pytest.skip("ffmpeg is not installed")
    library, wanted = Library(board.runs / "done"), tmp_path / "demo.mp4"
    with ThreadPoolExecutor(1) as aside:  # playwright allows one loop a thread, and this one's is the browser fixture's
        film = aside.submit(recording.record_demo, library, wanted, "es", 30).result()
    asked = ["ffprobe", "-v", "error", "-show_streams", "-show_format", "-of", "json", str(film)]
    told = json.loads(subprocess.run(asked, capture_output=True, text=True, check=True).stdout)
    kinds = {stream["codec_type"]: stream for stream in told["streams"]}
    assert (kinds["video"]["codec_name"], kinds["video"]["width"]) == ("h264", recording.WIDTH)
    assert kinds["subtitle"]["tags"]["language"] == "spa"
    assert float(told["format"]["duration"]) < 60


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["demo", "nowhere"], "no run here to tell of"),
        (["demo", "nowhere", "--record", "x.avi"], "ends in .mp4"),
        (["demo", "nowhere", "--record", "/nowhere/x.mp4"], "there is no folder /nowhere"),
        (["dashboard", "--token", "short"], "shorter than 16 characters"),
        (["dashboard", "--model", "qq:x"], "unknown model source 'qq'"),
        (["dashboard", "--host", "203.0.113.1"], "203.0.113.1:8050 cannot be opened"),
    ],
)
def test_bad_input_is_one_sentence(words: list[str], sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(words)
    said = capsys.readouterr().err
    assert left.value.code == 2
    assert sentence in said
    assert said.count("\n") == 1


@pytest.mark.real_model
@pytest.mark.timeout(360)
def test_a_real_model_is_tried_to_the_end_and_the_page_says_what_the_record_says(pages: Pages, board: Board) -> None:
    page = pages.open(f"{board.url}try")
    page.wait_for_selector("#try-start")
    one_load = {"a_quantization": "FP32", "b_quantization": "FP32"}  # and so one sanity gate
    choose(page, model="SmolLM2-135M-Instruct", context="32", new_tokens="16", **one_load)
    run = start(page)
    page.wait_for_selector(ENDED, timeout=2 * LONG_MS)
    by_cache = {row.cache_mode: row for row in rows_of(board.runs / run)}
    assert {row.status.value for row in by_cache.values()} == {"ok"}
    assert_lane_is_the_record(page, "a", by_cache["off"])
    assert_lane_is_the_record(page, "b", by_cache["on"])
    streams = RunReader(board.runs / run).look().now.streams
    assert page.inner_text("#lane-a .written").strip() in {stream.text.strip() for _, stream in streams}
    assert all(len(stream.gaps_s) == 16 for _, stream in streams)
    drawn = page.evaluate("document.querySelector('#token-graph .js-plotly-plot').data.map((trace) => trace.y.length)")
    assert drawn == [15, 15]
    pages.assert_quiet(board)
