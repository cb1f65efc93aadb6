"""The plan: which load groups are still to do, what is kept, and what cannot fit on the device.

    plan = make_plan(cells, records, retry=frozenset())

Pure: it reads cells and records and decides. Memory is predicted from the architecture; a cell is refused before it is
run only when even weights plus KV cache alone exceed the device (a lower bound, so no cell that could run is lost).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from farm.architectures import Architecture
from farm.cells import Cell, Load, SpeedTask
from farm.cost import group_seconds
from farm.keys import cell_key
from farm.kv_cache import CacheTask, kv_device_bytes
from farm.model_ref import architecture_of
from farm.quantization import parse_quantization
from farm.records import Record
from farm.verdict import judge

RECORDS = "records"
SUSPECT = "suspect"  # of `retry`: rows that are not valid for a reason that may pass


@dataclass(frozen=True, slots=True)
class LoadGroup:
    """Cells that share a loaded model: the unit of scheduling. `canary`: `alone` or `busy` (farm.interference)."""

    load: Load
    cells: tuple[Cell, ...]
    canary: str | None = None

    @property
    def shelf(self) -> str:
        """Which part of the run folder its records belong to: a canary's lie apart, so that they enter nothing."""
        return RECORDS if self.canary is None else f"canary/{self.canary}"

    @property
    def seconds(self) -> float:
        """A guess of how long it takes, the process and the load included."""
        return group_seconds(self.load, self.cells)


@dataclass(frozen=True, slots=True)
class Plan:
    """`todo` in the order to start (the widest first); `kept` have a final record; `misfits` are predicted OOMs."""

    todo: tuple[LoadGroup, ...]
    kept: tuple[Record, ...]
    misfits: tuple[Cell, ...]

    @property
    def todo_cells(self) -> int:
        return sum(len(group.cells) for group in self.todo)


def make_plan(
    cells: Sequence[Cell],
    records: Iterable[Record],
    retry: frozenset[str] = frozenset(),
    device_memory_bytes: int | None = None,
    most_cells_first: bool = False,
) -> Plan:
    """Split the cells into kept, impossible and to do. `retry`: statuses, or SUSPECT, to run again in any case.

    `most_cells_first`: for a run that may be stopped before its end, so that as many cells as possible are done then.
    """
    latest = latest_by_key(records)
    kept, open_cells = [], []
    for cell in cells:
        record = latest.get(cell_key(cell))
        if record is not None and record.status.is_final and not _is_wanted_again(record, retry):
            kept.append(record)
        else:
            open_cells.append(cell)
    misfits = tuple(cell for cell in open_cells if not fits(cell, device_memory_bytes))
    todo = group_by_load(cell for cell in open_cells if cell not in misfits)
    todo_in_order = tuple(sorted(todo, key=lambda group: _turn(group, most_cells_first)))
    return Plan(todo_in_order, tuple(kept), misfits)


def _is_wanted_again(record: Record, retry: frozenset[str]) -> bool:
    return record.status in retry or (SUSPECT in retry and _is_suspect(record))


def _is_suspect(record: Record) -> bool:
    """Measuring again could make its figure one to trust."""
    task, speed = record.cell.task, record.speed
    return speed is not None and isinstance(task, SpeedTask) and judge(speed, task, record.disturbed).worth_another_try


def _turn(group: LoadGroup, most_cells_first: bool) -> tuple[int, float]:
    """Wide groups first: a hole of four GPUs is there at the start and seldom later. Then the longest, so that none
    ends alone, or the one that takes the least time a cell. That is seldom the shortest: loading a model for one cell
    costs as much as loading it for ten."""
    return -group.load.gpus, group.seconds / len(group.cells) if most_cells_first else -group.seconds


def latest_by_key(records: Iterable[Record]) -> dict[str, Record]:
    """The newest attempt at each cell: the one that counts."""
    latest: dict[str, Record] = {}
    for record in records:
        known = latest.get(record.key)
        if known is None or record.attempt > known.attempt:
            latest[record.key] = record
    return latest


def group_by_load(cells: Iterable[Cell]) -> tuple[LoadGroup, ...]:
    groups: dict[Load, list[Cell]] = {}
    for cell in cells:
        groups.setdefault(cell.load, []).append(cell)
    return tuple(LoadGroup(load, tuple(members)) for load, members in groups.items())


def predicted_bytes(cell: Cell, architecture: Architecture | None = None) -> float | None:
    """Weights plus KV cache: what the cell needs at the very least. None when the architecture is not known yet.

    `architecture`: as it was read off the loaded model; that of a hub model is not known before.
    """
    architecture = architecture or architecture_of(cell.load.model)
    if architecture is None:
        return None
    quantization = parse_quantization(cell.load.quantization)
    other_bits = quantization.precision.other_bits
    weights = architecture.weight_bytes(quantization.linear_bits, other_bits)
    if not isinstance(cell.task, SpeedTask):
        return weights
    return weights + kv_device_bytes(CacheTask.of(cell.task), architecture, other_bits)


def host_bytes(load: Load) -> int:
    """What the host needs at most while a GPU's weights pass through it: all of them in 16 bit.

    0 where that is not known (a hub model) or not so (made-up weights are made on the GPU).
    """
    architecture = architecture_of(load.model)
    if load.device == "cpu" or not load.model.has_true_weights or architecture is None:
        return 0
    return int(architecture.weight_bytes(16, 16))


def fits(cell: Cell, device_memory_bytes: int | None) -> bool:
    """True unless the prediction, a lower bound, exceeds the device's memory."""
    needed = predicted_bytes(cell)
    return needed is None or device_memory_bytes is None or needed <= device_memory_bytes * cell.load.gpus
