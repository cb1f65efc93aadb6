"""Which cell another one is compared with: the 16-bit row, the other cache mode, the perplexity of the same weights.

Why by identity: the partner of a cell is the same cell with one field changed, so its key is computed, not searched
for. Two records are partners exactly when they measured the same thing but for that field.

    lookup = Lookup.of(final_records(records).values())
    lookup.baseline_of(cell.load)    # Load(..., quantization='fp16', ...) or None
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

from farm import catalog
from farm.cells import Cell, Load, QualityTask, SpeedTask
from farm.keys import cell_key, load_key
from farm.records import Record, Status


@dataclass(frozen=True, slots=True)
class Lookup:
    """The `ok` records of one run by what they measured; the quality tasks that were asked of it, headline first."""

    by_cell: dict[str, Record]
    by_load: dict[str, tuple[Record, ...]]
    quality_tasks: tuple[QualityTask, ...]

    @classmethod
    def of(cls, records: Iterable[Record]) -> "Lookup":
        everything = list(records)
        good = [record for record in everything if record.status is Status.OK]
        by_load: dict[str, tuple[Record, ...]] = {}
        for record in good:
            name = load_key(record.cell.load)
            by_load[name] = (*by_load.get(name, ()), record)
        tasks = {record.cell.task for record in everything if isinstance(record.cell.task, QualityTask)}
        by_cell = {cell_key(record.cell): record for record in good}
        return cls(by_cell, by_load, tuple(sorted(tasks, key=quality_rank)))

    def baseline_of(self, load: Load) -> Load | None:
        """The same load in the first of `catalog.BASELINES` that anything was measured with."""
        candidates = (replace(load, quantization=name) for name in catalog.BASELINES)
        return next((other for other in candidates if load_key(other) in self.by_load), None)

    def with_load(self, cell: Cell, load: Load | None) -> Record | None:
        """The same task on another load."""
        return None if load is None else self.by_cell.get(cell_key(Cell(load, cell.task)))

    def without_cache(self, cell: Cell) -> Record | None:
        """The same cell with the KV cache off; None for a cell that is not a cached speed cell."""
        task = cell.task
        if not isinstance(task, SpeedTask) or task.cache_mode != "on":
            return None
        return self.by_cell.get(cell_key(Cell(cell.load, replace(task, cache_mode="off"))))

    def exactly_cached(self, cell: Cell, load: Load | None) -> Record | None:
        """The same task on another load, through the exact cache where this one goes through any."""
        task = cell.task
        if isinstance(task, QualityTask) and task.cache_mode is not None:
            cell = Cell(cell.load, replace(task, cache_mode="on"))
        return self.with_load(cell, load)

    def quality_of(self, load: Load, protocol: str | None = None, cache_mode: str | None = None) -> Record | None:
        """The load's record of the run's first quality task (of that protocol) that was scored through that cache.

        Only the first: had one precision failed at it, its next best protocol beside the others' first would mislead.
        """
        asked = (task for task in self.quality_tasks if task.cache_mode == cache_mode)
        tasks = (task for task in asked if protocol in (None, task.protocol))
        task = next(tasks, None)
        return None if task is None else self.by_cell.get(cell_key(Cell(load, task)))


def quality_rank(task: QualityTask) -> tuple[int, int, int, str, str, float, int]:
    """Sorts the headline first: without a cache, the token level, which papers print, then small windows; the rest
    breaks ties."""
    protocol = catalog.QUALITY_PROTOCOLS.index(task.protocol)
    text = task.text.name, task.text.sha256 or ""
    mode = 0 if task.cache_mode is None else 1 + catalog.CACHE_MODES.index(task.cache_mode)
    return mode, protocol, task.window_tokens, *text, task.max_tokens or math.inf, -task.agreement_tokens
