"""The committed results are those of the committed records, byte for byte: nobody edited a figure, a table or a page.

After a change to how something is presented: `farm publish benchmarks/records.tar.gz`, and commit what it wrote.
"""

import json
import re
from pathlib import Path

import pytest
from PIL import Image

from farm.expand import expand
from farm.keys import cell_key
from farm.plan import make_plan
from farm.present.figure_files import PNG_SCALE
from farm.present.figures import all_drawings
from farm.present.markdown import block_of
from farm.present.publish import ARCHIVE, MARK, PAGES, READMES, publish, subject_of
from farm.storage.archive import pack
from farm.store import RunFolder

RUN = RunFolder(ARCHIVE)
AGAIN = "run `farm publish benchmarks/records.tar.gz` and commit what it wrote"


@pytest.fixture(scope="module")
def again(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Everything made once more from the archive, beside the project."""
    root = tmp_path_factory.mktemp("again")
    for name in READMES:
        (root / name).write_text(Path(name).read_text(encoding="utf-8"), encoding="utf-8")
    publish(RUN, root, images=False)
    return root


def test_every_committed_file_is_what_its_records_say(again: Path) -> None:
    made = sorted(file.relative_to(again) for file in again.rglob("*") if file.is_file())
    assert {Path("benchmarks/results.csv"), Path("metrics/final_report.json"), Path("docs/results.md")} <= set(made)
    other = [str(file) for file in made if file.read_bytes() != (again / file).read_bytes()]
    assert other == [], AGAIN


def test_the_readmes_show_the_report(again: Path) -> None:
    for name in READMES:
        committed = Path(name).read_text(encoding="utf-8")
        assert block_of(committed, MARK) == block_of((again / name).read_text(encoding="utf-8"), MARK) != "", AGAIN


def test_every_figure_has_a_picture_of_its_size() -> None:
    subject = subject_of(RUN)
    for drawing in all_drawings(subject.rows, subject.records, subject.events):
        with Image.open(f"{drawing.folder}/{drawing.name}.png") as picture:
            assert picture.width == PNG_SCALE * drawing.figure.layout.width, f"{drawing.name}: {AGAIN}"


def test_the_archive_is_of_a_real_gpu_and_every_record_of_it_ended() -> None:
    records = RUN.results()
    assert records and not any(record.is_fake for record in records)
    assert all(record.status.is_final for record in records)
    assert {record.environment.device for record in records if record.environment} == {"cuda"}
    assert pack(RUN.storage) == Path(ARCHIVE).read_bytes()


def test_a_part_says_that_it_is_one_wherever_it_is_shown() -> None:
    have, asked = len(RUN.results()), len(RUN.manifest().keys)
    told = json.loads(Path("metrics/final_report.json").read_text())["run"]
    assert (told["cells"], told["cells_asked"]) == (have, asked)
    pages = [Path(name).read_text(encoding="utf-8") for name in (*PAGES, "benchmarks/report.html")]
    blocks = [block_of(Path(name).read_text(encoding="utf-8"), MARK) for name in READMES]
    for text in (*pages, *blocks):
        assert bool(re.search("part of the (sweep|run): |parte del barrido: ", text)) == (have < asked)
        assert have == asked or f"{have} of {asked}" in text or f"{have} de {asked}" in text


def test_the_run_goes_on_where_the_archive_ends() -> None:
    """What is measured is kept and nothing else is left out: unpacking it and running its sweep completes it."""
    cells = expand(RUN.manifest().sweep, "cuda")
    asked, have = {cell_key(cell) for cell in cells}, {record.key for record in RUN.read()}
    plan = make_plan(cells, RUN.read())
    assert asked <= set(RUN.manifest().keys)
    assert {record.key for record in plan.kept} == asked & have
    assert plan.todo_cells == len(asked - have)
