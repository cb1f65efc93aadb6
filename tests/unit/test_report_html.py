"""report.html: one page that asks no network for anything, can be read by all, and repeats byte for byte."""

import hashlib
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from farm.errors import FarmError
from farm.present.figures import all_drawings
from farm.present.figures.gantt_bars import parse_events
from farm.present.report import write_outputs
from farm.present.report_html import Page, page_of, to_html
from farm.present.report_html_parts import report_rows
from farm.present.theme import contrast
from farm.records import Record, Status
from farm.reduce import cell_rows
from farm.rows import CellRow
from tests.unit import record_builder as build
from tests.unit import rich_records as rich

RUN = build.with_failures(build.sweep())
ROWS = cell_rows(RUN)
RICH = rich.rich_sweep()


def find(quantization: str, context: int, cache: str = "on", rows: list[CellRow] = ROWS) -> CellRow:
    return rich.find(rows, quantization, context, cache)


def page(records: list[Record], language: str = "en") -> Page:
    rows = cell_rows(records)
    drawings = all_drawings(report_rows(rows), records, (), language)
    return page_of(rows, records, drawings, language, "test")


class Outline(HTMLParser):
    """What the page's structure must hold: ids, links, headings, rows, outside addresses."""

    def __init__(self) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.links: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.tags.append((tag, found))
        self.ids += [found["id"]] if found.get("id") else []  # type: ignore[list-item]
        self.links += [found[name] or "" for name in ("href", "src") if name in found]


def outline(html_text: str) -> Outline:
    parser = Outline()
    parser.feed(html_text)
    return parser


def test_the_page_stands_alone_and_every_link_of_it_leads_somewhere() -> None:
    found = outline(to_html(page(RICH)))
    assert all(link.startswith("#") or link == "data:," for link in found.links)
    assert {link[1:] for link in found.links if link.startswith("#")} <= set(found.ids)
    assert len(found.ids) == len(set(found.ids))
    policy = next(tag["content"] for name, tag in found.tags if name == "meta" and "http-equiv" in tag)
    assert policy and policy.startswith("default-src 'none'")


def test_the_page_can_be_reached_and_read_without_eyes_or_mouse() -> None:
    found = outline(to_html(page(RICH, "es")))
    assert next(tag for name, tag in found.tags if name == "html")["lang"] == "es"
    assert next(tag for name, tag in found.tags if name == "a")["class"] == "skip"
    plots = [tag for _, tag in found.tags if tag.get("role") == "img"]
    assert len(plots) == 12 and all(len(tag["aria-label"] or "") > 40 for tag in plots)
    frames = [tag for _, tag in found.tags if "frame" in (tag.get("class") or "")]
    assert all(tag["tabindex"] == "0" and (tag.get("aria-label") or tag.get("aria-labelledby")) for tag in frames)


def test_colours_of_the_page_contrast() -> None:
    css = Path("farm/present/html/report.css").read_text()
    named = dict(re.findall(r"--(\w+): (#[0-9a-f]{3,6});", css))
    full = {
        name: "#" + "".join(2 * c for c in value[1:]) if len(value) == 4 else value for name, value in named.items()
    }
    for ink in ("ink", "faint", "link"):
        for paper in ("paper", "soft"):
            assert contrast(full[ink], full[paper]) >= 4.5, (ink, paper)
    assert contrast("#ffffff", full["head"]) >= 4.5
    assert contrast("#a12a00", "#ffffff") >= 4.5 and contrast(full["ink"], "#fff8e1") >= 4.5


def test_every_cell_is_a_line_and_every_failure_has_its_reason() -> None:
    made = page(RICH)
    assert [line.key for line in made.cells] == [row.key for row in cell_rows(RICH)]
    assert {line.state for line in made.cells} == {"valid", "suspect", "failed"}
    assert (made.failures[0].status, made.failures[0].reason) == (
        "oom",
        "CUDA out of memory: tried to allocate 2.00 GiB, 1.10 GiB free of 79.1 GiB",
    )
    assert len(made.failures) == 3
    decode = [line.values[7].sort for line in made.cells if line.key == find("nf4", 2048).key]
    assert [float(value) for value in decode] == [find("nf4", 2048).decode_tok_s.median]  # type: ignore[union-attr]


def test_what_a_record_says_cannot_break_out_of_the_page() -> None:
    evil = "</script><script>alert(1)</script><img src=x>"
    records = [build.failed(r.cell, Status.ERROR, evil) if r.quality is None else r for r in RUN]
    html_text = to_html(page(records))
    assert "<img src=x>" not in html_text and "<script>alert(1)" not in html_text
    assert "&lt;img src=x&gt;" in html_text


@pytest.mark.parametrize(("language", "word"), [("en", "A part of the run"), ("es", "Una parte de la ejecución")])
def test_a_part_of_a_run_says_so_first(language: str, word: str) -> None:
    rows = cell_rows(RUN)
    assert page_of(rows, RUN, (), language, "x", (), len(rows) + 1).lead.startswith(word)
    assert word not in page_of(rows, RUN, (), language, "x", (), len(rows)).lead


def test_many_batches_show_the_smallest_and_say_so() -> None:
    rows = cell_rows(rich.large_sweep(260))
    assert {row.batch_size for row in report_rows(rows) if row.kind == "speed"} == {1}
    assert "smallest batch" in page_of(rows, [], (), "en", None).caveats[-1].text


def test_report_twice_is_byte_identical(tmp_path: Path) -> None:
    digests = []
    for _ in range(2):
        events = parse_events(rich.event_log(RICH))
        written = write_outputs(RICH, tmp_path, images=False, sweep="rich", events=events).files
        digests.append({file: hashlib.sha256(file.read_bytes()).hexdigest() for file in written})
    assert digests[0] == digests[1]
    assert tmp_path / "report.html" in digests[0]
    assert "64 cells in 8 load groups" in (tmp_path / "report.html").read_text()


def test_a_language_that_nobody_wrote_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FarmError, match="--lang: unknown language 'fr'; valid: en, es"):
        write_outputs(RUN, tmp_path, images=False, lang="fr")
    assert list(tmp_path.iterdir()) == []
