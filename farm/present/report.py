"""Everything that a run is published as, written from its records: `farm report` is this one call.

Why from records alone: results, tables and figures can be made again on any machine, and must come out the same.

    outputs = write_outputs(RunFolder(path).results(), path)
    outputs.warnings    # e.g. ('no PNG was written, only HTML: ...',)
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from farm.interference import Interference
from farm.present.csv_files import write_cells_csv, write_results_csv
from farm.present.figure_files import write_drawings
from farm.present.figures import all_drawings
from farm.present.figures.gantt_bars import LoggedEvent, chart_of
from farm.present.figures.schedule import schedule_of
from farm.present.final_report import write_final_report
from farm.present.report_html import page_of, write_report_html
from farm.present.report_html_parts import report_rows, run_methods, shows_all_batches
from farm.present.words import DEFAULT, check_language
from farm.records import Record
from farm.reduce import cell_rows, final_records, refuse_fake, trial_rows


@dataclass(frozen=True, slots=True)
class Outputs:
    """Every file that was written, and what could not be."""

    files: tuple[Path, ...]
    warnings: tuple[str, ...]


def write_outputs(
    records: Sequence[Record],
    out: Path,
    images: bool = True,
    sweep: str | None = None,
    events: Sequence[LoggedEvent] = (),
    found: Interference | None = None,
    asked: int | None = None,
    allow_fake: bool = False,
    lang: str = DEFAULT,
    library: str | None = None,
) -> Outputs:
    """Write report.html, benchmarks, figures and metrics below `out`.

    `sweep` is the sweep's name; `events` the run's log; `found` what its canary says; `asked` how many cells it was to
    measure: with fewer rows, page and JSON say that they are of a part. `images=False` skips the PNGs; `lang` is that
    of figures and page, CSV and JSON have none; `library` is where the page finds plotly (None: within it). Raises
    FarmError for records of the fake engine unless allowed, and for a language nobody wrote.
    """
    check_language(lang)
    if not allow_fake:
        refuse_fake(records)
    cells, final = cell_rows(records), list(final_records(records).values())
    results_csv = write_results_csv(out / "benchmarks" / "results.csv", trial_rows(records))
    cells_csv = write_cells_csv(out / "benchmarks" / "cells.csv", cells)
    report = write_final_report(out / "metrics" / "final_report.json", records, sweep, events, found, asked)
    drawings = all_drawings(cells, final, events, lang)
    shown = drawings if shows_all_batches(cells) else all_drawings(report_rows(cells), final, events, lang)
    more = run_methods(found, schedule_of(chart_of(events, final)), lang)
    page = replace(page_of(cells, final, shown, lang, sweep, more, asked), library=library)
    report_html = write_report_html(out / "report.html", page)
    drawn = write_drawings(drawings, out, images, lang)
    return Outputs((report_html, results_csv, cells_csv, report, *drawn.files), drawn.warnings)
