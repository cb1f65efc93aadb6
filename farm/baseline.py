"""Which cell another one is compared with: the 16-bit row, the other cache mode, the perplexity of the same weights.

Why by identity: the partner of a cell is the same cell with one field changed, so its key is computed, not searched
for. Two records are partners exactly when they measured the same thing but for that field.

    lookup = Lookup.of(final_records(records).values())
    lookup.baseline_of(cell.load)    # Load(..., quantization='fp16', ...) or None
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from farm import catalog
from farm.cells import Cell, Load, QualityTask, SpeedTask
from farm.keys import cell_key, load_key
from farm.records import Record, Status


@dataclass(frozen=True, slots=True)
class Lookup:
    """The `ok` records of one run by what they measured."""

    by_cell: dict[str, Record]
    by_load: dict[str, tuple[Record, ...]]

    @classmethod
    def of(cls, records: Iterable[Record]) -> "Lookup":
        good = [record for record in records if record.status is Status.OK]
        by_load: dict[str, tuple[Record, ...]] = {}
        for record in good:
            name = load_key(record.cell.load)
            by_load[name] = (*by_load.get(name, ()), record)
        return cls({cell_key(record.cell): record for record in good}, by_load)

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

    def quality_of(self, load: Load) -> Record | None:
        """The first quality record of a load, in the records' order."""
        mates = self.by_load.get(load_key(load), ())
        return next((mate for mate in mates if isinstance(mate.cell.task, QualityTask)), None)
