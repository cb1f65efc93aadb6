"""`farm publish`: a run becomes what the repository shows, all of it from its records, so that a test can compare.

benchmarks/records.tar.gz    the records themselves; results.csv, cells.csv, report.html and three figures beside it
figures/, metrics/           as `farm report` writes them
docs/results*.md, README*    the pages, and the block between the README's marks

publish(RunFolder("runs/published"), Path("."))
"""

import tempfile
from pathlib import Path

from farm.errors import FarmError
from farm.expand import expand
from farm.keys import cell_key
from farm.present.atomic import write_atomically
from farm.present.figure_files import LIBRARY
from farm.present.figures.gantt_bars import parse_events
from farm.present.markdown import replace_block
from farm.present.report import Outputs, write_outputs
from farm.present.results_page import Subject, readme_block, results_page
from farm.reduce import cell_rows, final_records
from farm.storage.archive import pack
from farm.store import RunFolder

ARCHIVE = "benchmarks/records.tar.gz"
MARK = "run"
PAGES = {"docs/results.md": "en", "docs/results.es.md": "es"}
READMES = {"README.md": "en", "README.es.md": "es"}
_ELSEWHERE = {"report.html": "benchmarks/report.html"}  # the top folder holds no page of a run


def publish(run: RunFolder, root: Path, images: bool = True) -> Outputs:
    """Write everything below `root`. Raises FarmError for records of the fake engine and for a README without marks."""
    _check_readmes(root)
    subject = subject_of(run)
    with tempfile.TemporaryDirectory() as scratch:
        told = (images, subject.sweep, subject.events, run.interference(), subject.asked)
        made = write_outputs(subject.records, Path(scratch), *told, library=f"../{LIBRARY}")
        files = [_moved(file, Path(scratch), root) for file in made.files]
    files.append(write_atomically(root / ARCHIVE, pack(run.storage)))
    files += [write_atomically(root / f, results_page(subject, lang).encode()) for f, lang in PAGES.items()]
    files += [replace_block(root / f, MARK, readme_block(subject, lang)) for f, lang in READMES.items()]
    return Outputs(tuple(files), made.warnings)


def _check_readmes(root: Path) -> None:
    """Before anything is written: a folder that is not the project must not be half filled."""
    for name in READMES:
        if not (root / name).is_file():
            raise FarmError(f"{root}: no {name} here, so this is not the project; name its folder with --into")


def subject_of(run: RunFolder) -> Subject:
    """The run as the pages want it."""
    records = run.results()
    if not records:
        raise FarmError(f"{run.name}: nothing is measured yet, so there is nothing to show; `farm resume` it first")
    final = tuple(final_records(records).values())
    manifest = run.manifest()
    cells = {cell_key(cell): cell for cell in expand(manifest.sweep, manifest.device)}
    measured = {record.key for record in final}
    return Subject(
        rows=tuple(cell_rows(records)),
        records=final,
        events=parse_events(run.storage.logged()),
        sweep=manifest.sweep.name,
        asked=len(manifest.keys),
        missing=tuple(cell for key, cell in cells.items() if key not in measured),
        others=len(measured - cells.keys()),
    )


def _moved(file: Path, scratch: Path, root: Path) -> Path:
    name = file.relative_to(scratch).as_posix()
    return write_atomically(root / _ELSEWHERE.get(name, name), file.read_bytes())
