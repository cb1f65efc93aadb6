"""docs/results.md and the README's block: every figure is a row's, both languages say the same, tables stay whole."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from farm.errors import FarmError
from farm.keys import cell_key
from farm.present.atomic import write_atomically
from farm.present.coverage import coverage_of_rows
from farm.present.figures.gantt_bars import parse_events
from farm.present.markdown import block_of, replace_block, table
from farm.present.publish import ARCHIVE, MARK, PAGES, READMES, publish
from farm.present.results_page import Subject, readme_block, results_page
from farm.records import Record, Status
from farm.reduce import cell_rows, final_records
from farm.store import Manifest, RunFolder
from tests.unit import record_builder as build
from tests.unit import rich_records as rich
from tests.unit.sweeps import sweep

RICH = rich.rich_sweep()
LANGUAGES = ("en", "es")


def subject(records=RICH) -> Subject:
    final = tuple(final_records(records).values())
    return Subject(tuple(cell_rows(records)), final, parse_events(rich.event_log(records)), "rich")


def numbers(text: str) -> list[str]:
    """Every figure of a page, thousands written as one."""
    return re.findall(r"\d+(?:\.\d+)?", re.sub(r"(?<=\d)[,\u202f](?=\d{3})", "", text))


def table_lines(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith("|")]


def test_a_bar_or_a_line_break_does_not_end_a_cell() -> None:
    assert table(["a", "b"], [["x|y", "one\ntwo"]]).splitlines()[-1] == r"| x\|y | one two |"


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_page_shows_the_rows(language: str) -> None:
    page = results_page(subject(), language)
    fp16 = next(row for row in cell_rows(RICH) if row.context_tokens == 2048 and row.cache_mode == "on")
    assert fp16.decode_tok_s is not None
    assert f"{fp16.decode_tok_s.median:.1f} [{fp16.decode_tok_s.ci_low:.1f}, {fp16.decode_tok_s.ci_high:.1f}]" in page
    assert "+6.08 %" in page and "CUDA out of memory" in page and "56" in page
    assert page.count("\n### ") == 3
    assert "13.5" in page  # minutes of all load groups in the log


def test_both_languages_have_the_same_figures_in_their_tables() -> None:
    for make in (results_page, readme_block):
        english, spanish = (make(subject(), language) for language in LANGUAGES)
        assert numbers("\n".join(table_lines(english))) == numbers("\n".join(table_lines(spanish)))
        assert len(table_lines(english)) >= 9  # seven steps of the ladder under their head


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_run_without_quality_and_without_failures_says_so(language: str) -> None:
    records = [item for item in build.sweep(build.RANDOM) if item.status is Status.OK]
    page = results_page(subject(records), language)
    assert ("measured no perplexity" if language == "en" else "no midió la perplejidad") in page
    assert ("Every cell gave one" if language == "en" else "Todas las celdas dieron una") in page
    assert "| PPL |" not in readme_block(subject(records), language)


def test_what_was_measured_is_told_by_its_lengths() -> None:
    lines = coverage_of_rows(cell_rows(RICH))
    assert lines[0] == ("Meta-Llama-3-8B-Instruct", "eager", "on", "1", "128, 256, 512, 1,024, 2,048", lines[0][-1])
    assert lines[0][-1].split(", ") == ["FP16", "BF16", "INT8 (bitsandbytes)", "NF4 (bitsandbytes)"]
    few = [row for row in cell_rows(RICH) if row.context_tokens == 128 or row.quantization == "fp16"]
    assert {line[-2] for line in coverage_of_rows(few)} == {"128", "128, 256, 512, 1,024, 2,048"}


@pytest.mark.parametrize(
    ("language", "part"), [("en", "A part of the sweep: 61 of 64"), ("es", "Una parte del barrido: 61 de 64")]
)
def test_a_part_of_a_sweep_says_so_first_and_lists_what_is_missing(language: str, part: str) -> None:
    kept = [item for item in RICH if item.status is Status.OK]
    lost = tuple(item.cell for item in RICH if item.status is not Status.OK)
    whole, made = subject(), subject(kept)
    made = Subject(made.rows, made.records, made.events, made.sweep, len(RICH), lost)
    assert part in readme_block(made, language).split("|")[0]
    page = results_page(made, language)
    assert "61 of 64" in page.split("##")[0] or "61 de 64" in page.split("##")[0]
    assert "| Meta-Llama-3-8B-Instruct | eager | off | 1 |" in page
    assert "INT8 (bitsandbytes) |" in page
    for text in (readme_block(whole, language), results_page(whole, language)):
        assert "part of the sweep" not in text and "parte del barrido" not in text


def test_cells_of_another_sweep_are_told(root: Path) -> None:
    publish(stored(root / "run", RICH), root, images=False)  # none of its cells is of the sweep in its manifest
    text = (root / "README.md").read_text()
    assert f"{len(RICH)} of the measured cells are of another sweep" in text
    assert "another sweep" not in readme_block(subject(), "en")


def test_a_commit_of_changed_code_keeps_its_mark() -> None:
    changed = [_of_commit(item, "0123456789" * 4 + "-dirty") for item in RICH]
    assert "commit 0123456-dirty" in readme_block(subject(changed), "en")


def _of_commit(item: Record, commit: str) -> Record:
    assert item.environment is not None
    return replace(item, environment=replace(item.environment, farm_commit=commit))


def test_a_block_is_replaced_and_the_rest_kept(tmp_path: Path) -> None:
    file = tmp_path / "README.md"
    file.write_text("above\n<!-- run:begin -->\nold\n<!-- run:end -->\nbelow\n")
    replace_block(file, "run", "new\n")
    assert file.read_text() == "above\n<!-- run:begin -->\nnew\n<!-- run:end -->\nbelow\n"
    assert block_of(file.read_text(), "run") == "new"


def test_a_file_without_marks_is_left_alone_with_one_sentence(tmp_path: Path) -> None:
    file = tmp_path / "README.md"
    file.write_text("<!-- run:begin --> no end")
    with pytest.raises(FarmError, match="put them where the block belongs"):
        replace_block(file, "run", "new")
    assert file.read_text() == "<!-- run:begin --> no end"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in READMES:
        (tmp_path / name).write_text(f"<!-- {MARK}:begin -->\n<!-- {MARK}:end -->\n")
    return tmp_path


def stored(folder: Path, records) -> RunFolder:
    run = RunFolder(folder)
    with run.locked():
        run.pin(Manifest(sweep(name="rich"), "cuda", tuple(cell_key(r.cell) for r in records)))
        for item in records:
            run.write(item)
    return run


def test_a_folder_that_is_not_the_project_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    run = stored(tmp_path / "run", RICH)
    (tmp_path / "elsewhere").mkdir()
    with pytest.raises(FarmError, match=r"no README\.md here, so this is not the project"):
        publish(run, tmp_path / "elsewhere", images=False)
    assert not list((tmp_path / "elsewhere").iterdir())


def test_a_place_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(FarmError, match=r"results\.csv: cannot be written \(.*choose another folder"):
        write_atomically(tmp_path / "file" / "results.csv", b"")


def test_publishing_twice_also_from_its_own_archive_gives_the_same_bytes(root: Path) -> None:
    def contents() -> dict[str, bytes]:
        return {
            str(f.relative_to(root)): f.read_bytes() for f in root.rglob("*") if f.is_file() and "run" not in f.parts
        }

    publish(stored(root / "run", RICH), root, images=False)
    first = contents()
    assert {ARCHIVE, *PAGES, *READMES, "benchmarks/report.html", "metrics/final_report.json"} <= set(first)
    assert "report.html" not in first
    publish(RunFolder(root / ARCHIVE), root, images=False)
    assert contents() == first
    assert block_of(first["README.md"].decode(), MARK) == readme_block(_without_log(), "en").strip()


def _without_log() -> Subject:
    made = subject()
    return Subject(made.rows, made.records, (), made.sweep, others=len(RICH))


def test_invented_times_are_never_published(root: Path) -> None:
    fake = build.speed(build.speed_cell(build.load(engine="fake")))
    with pytest.raises(FarmError, match="fake engine"):
        publish(stored(root / "run", [fake]), root, images=False)
    assert not (root / "benchmarks").exists()


def test_a_run_of_quality_alone_has_a_page_and_an_empty_one_says_so(root: Path) -> None:
    only = [item for item in RICH if item.quality is not None]
    assert "| PPL |" in results_page(subject(only), "en")
    with pytest.raises(FarmError, match="nothing is measured yet"):
        publish(stored(root / "run", []), root, images=False)
