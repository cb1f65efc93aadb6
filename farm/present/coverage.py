"""Which lengths were asked of what, a few lines for a hundred cells: precisions of the same lengths share a line.

Why: a reader must see at a glance what a run holds and what it lacks, or an absent row reads like a bad one.

    coverage_of_rows(rows)[0]    # ('random llama-3-8b', 'eager', 'on', '1', '128, 2,048', 'FP16, NF4')
"""

from collections.abc import Iterable, Sequence

from farm.cells import Cell, SpeedTask
from farm.present.theme import title_of
from farm.present.words import number
from farm.rows import CellRow

Line = tuple[str, ...]


def coverage_of_rows(rows: Sequence[CellRow]) -> list[Line]:
    """Model, engine, cache, batch, contexts, precisions."""
    speed = [row for row in rows if row.kind == "speed"]
    return _lines(
        ((row.model, row.engine, row.cache_mode or "", str(row.batch_size), row.quantization), row.context_tokens or 0)
        for row in speed
    )


def coverage_of_cells(cells: Sequence[Cell]) -> list[Line]:
    """The same of cells that have no row."""
    return _lines((_head(cell, cell.task), cell.task.context_tokens) for cell in cells if cell.task.kind == "speed")


def _head(cell: Cell, task: SpeedTask) -> Line:
    load = cell.load
    return load.model.short, load.engine, task.cache_mode, str(task.batch_size), load.quantization


def _lines(found: Iterable[tuple[Line, int]]) -> list[Line]:
    """From model, engine, cache, batch and one precision, with one context each."""
    contexts: dict[Line, set[int]] = {}
    for key, context in found:
        contexts.setdefault(key, set()).add(context)
    lines: dict[Line, list[str]] = {}
    for (*head, precision), lengths in contexts.items():
        lines.setdefault((*head, ", ".join(map(number, sorted(lengths)))), []).append(title_of(precision))
    return [(*head, ", ".join(precisions)) for head, precisions in lines.items()]
