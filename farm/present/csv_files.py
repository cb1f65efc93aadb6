"""The two CSV files: results.csv with a row a trial, cells.csv with a row a cell.

Why by hand and not through pandas: the files are compared byte for byte after `farm report`, so line ends, number
formats and column order are fixed here. Floats keep every digit (`repr` reads back to the same double), a missing
value is an empty field and never a 0.

    write_csv(Path("benchmarks/cells.csv"), CellRow, cell_rows(records))
"""

import csv
import io
from collections.abc import Iterable
from enum import Enum
from pathlib import Path
from typing import Any

from farm.present.atomic import write_atomically
from farm.rows import CellRow, Identity, TrialRow, columns, values


def write_results_csv(file: Path, rows: Iterable[TrialRow]) -> Path:
    """One row a trial; warm-ups are in no record and so not here."""
    return write_csv(file, TrialRow, rows)


def write_cells_csv(file: Path, rows: Iterable[CellRow]) -> Path:
    """One row a cell."""
    return write_csv(file, CellRow, rows)


def write_csv(file: Path, row_type: type[Identity], rows: Iterable[Identity]) -> Path:
    """Write atomically; equal rows give equal bytes."""
    return write_atomically(file, to_csv(row_type, rows).encode())


def to_csv(row_type: type[Identity], rows: Iterable[Identity]) -> str:
    """The text of the file: the header is there even without rows."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns(row_type))
    for row in rows:
        writer.writerow([_field(value) for value in values(row)])
    return text.getvalue()


def _field(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return repr(float(value))
    if isinstance(value, tuple):
        return " ".join(str(item) for item in value)
    return str(value.value if isinstance(value, Enum) else value)
