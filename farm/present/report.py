"""Everything that a run is published as, written from its records: `farm report` is this one call.

Why from records alone: results, tables and figures can be made again on any machine, and must come out the same.

    outputs = write_outputs(RunFolder(path).results(), path)
    outputs.warnings    # e.g. ('no PNG was written, only HTML: ...',)
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from farm.present.csv_files import write_cells_csv, write_results_csv
from farm.present.figure_files import write_drawings
from farm.present.figures import all_drawings
from farm.present.final_report import write_final_report
from farm.records import Record
from farm.reduce import cell_rows, refuse_fake, trial_rows


@dataclass(frozen=True, slots=True)
class Outputs:
    """Every file that was written, and what could not be."""

    files: tuple[Path, ...]
    warnings: tuple[str, ...]


def write_outputs(
    records: Sequence[Record], out: Path, images: bool = True, sweep: str | None = None, allow_fake: bool = False
) -> Outputs:
    """Write `out`/benchmarks, figures and metrics. Raises FarmError for records of the fake engine unless allowed.

    `sweep` is the sweep's name for the JSON report; `images=False` skips the PNGs.
    """
    if not allow_fake:
        refuse_fake(records)
    cells = cell_rows(records)
    results_csv = write_results_csv(out / "benchmarks" / "results.csv", trial_rows(records))
    cells_csv = write_cells_csv(out / "benchmarks" / "cells.csv", cells)
    report = write_final_report(out / "metrics" / "final_report.json", records, sweep)
    drawn = write_drawings(all_drawings(cells), out, images)
    return Outputs((results_csv, cells_csv, report, *drawn.files), drawn.warnings)
