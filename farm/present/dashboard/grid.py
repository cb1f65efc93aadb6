"""The grid of all cells: what a sweep is, and how far, on one look. Pure: a snapshot's parts in, boxes out.

grid = grids(snapshot.cells, snapshot.keys, rows, snapshot.now.jobs)
grid[0].lines[0].boxes[0].text    # '29.7'
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from farm.cells import Cell, QualityTask, SpeedTask
from farm.present.figures.points import is_trusted
from farm.present.words import number
from farm.records import Status
from farm.reduce import SHORT_KEY
from farm.rows import CellRow

FINDINGS = (Status.OOM, Status.UNSUPPORTED, Status.PREDICTED_OOM)
STATES = ("ok", "suspect", "finding", "failed", "running", "open")


@dataclass(frozen=True, slots=True)
class Box:
    """One cell of the sweep; `text` is its figure, or what became of it ('' while it is open)."""

    state: str
    text: str = ""
    title: str = ""


@dataclass(frozen=True, slots=True)
class Line:
    """The cells of one precision and cache mode, a box (or None) a column."""

    quantization: str
    cache_mode: str
    boxes: tuple[Box | None, ...]


@dataclass(frozen=True, slots=True)
class Grid:
    """Cells of one model, engine, batch size and length of output. `has_quality`: the last column is a perplexity."""

    model: str
    engine: str
    batch_size: int
    new_tokens: int
    contexts: tuple[int, ...]
    has_quality: bool
    lines: tuple[Line, ...]


def grids(
    cells: Mapping[str, Cell], keys: Sequence[str], rows: Sequence[CellRow], running: Collection[str]
) -> tuple[Grid, ...]:
    """In the sweep's order. `running`: keys of cells that a worker repeats now."""
    by_key = {row.key: row for row in rows}
    boxes = {key: _box(by_key.get(key[:SHORT_KEY]), key in running) for key in keys}
    groups: dict[tuple[str, str, int, int], list[str]] = {}
    for key in keys:
        task = cells[key].task if key in cells else None
        if isinstance(task, SpeedTask):
            load = cells[key].load
            groups.setdefault((load.model.short, load.engine, task.batch_size, task.new_tokens), []).append(key)
    quality = {_load_of(cells[key]): boxes[key] for key in keys if key in cells and _is_headline(cells[key], cells)}
    return tuple(_grid(head, own, cells, boxes, quality) for head, own in groups.items())


def _load_of(cell: Cell) -> tuple[str, str, str]:
    return cell.load.model.short, cell.load.engine, cell.load.quantization


def _is_headline(cell: Cell, cells: Mapping[str, Cell]) -> bool:
    """The first protocol of its load; others stand in the report."""
    first = next((one for one in cells.values() if one.load == cell.load and isinstance(one.task, QualityTask)), None)
    return cell == first


def _grid(
    head: tuple[str, str, int, int],
    keys: Sequence[str],
    cells: Mapping[str, Cell],
    boxes: Mapping[str, Box],
    quality: Mapping[tuple[str, str, str], Box],
) -> Grid:
    model, engine, batch, new_tokens = head
    places: dict[tuple[str, str], dict[int, Box]] = {}
    for key in keys:
        task = cells[key].task
        assert isinstance(task, SpeedTask)
        places.setdefault((cells[key].load.quantization, task.cache_mode), {})[task.context_tokens] = boxes[key]
    contexts = tuple(sorted({context for own in places.values() for context in own}))
    own_quality = {name: quality.get((model, engine, name)) for name, _ in places}
    has_quality = any(own_quality.values())
    lines = tuple(
        Line(name, mode, (*map(own.get, contexts), *([own_quality[name]] if has_quality else [])))
        for (name, mode), own in sorted(places.items(), key=lambda place: list(own_quality).index(place[0][0]))
    )
    return Grid(model, engine, batch, new_tokens, contexts, has_quality, lines)


def _box(row: CellRow | None, is_running: bool) -> Box:
    if row is None:
        return Box("running" if is_running else "open")
    if not row.is_ok:
        return Box("finding" if row.status in FINDINGS else "failed", row.status.value, row.reason or "")
    speed = row.decode_tok_s.median if row.decode_tok_s else None
    figure = row.quality.perplexity if row.kind == "quality" else speed
    trusted = is_trusted(row)
    text = number(figure) if figure is not None else "ok"
    return Box("ok" if trusted else "suspect", text if trusted else f"○ {text}", row.trust.verdict or "")
