"""What each phase of a measured cell had to do, and how fast it did it: the points of the roofline figure.

The physics: arithmetic intensity is FLOPs per byte moved. Left of the device's ridge a phase waits for memory, right
of it for arithmetic; decode lies far left, a long prompt right.

    work_points(records)[0].intensity    # 1.0 FLOP a byte: decode of 16-bit weights at batch 1

Work is counted by `farm.roofline`: what must be done, so a point never flatters.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from farm import catalog
from farm.cells import SpeedTask
from farm.device_facts import DeviceLimits
from farm.formulas import tpot_s
from farm.model_ref import architecture_of
from farm.present import theme
from farm.records import Record, SpeedResult, Status
from farm.reduce import SHORT_KEY
from farm.roofline import Shape, Work, decode_work, prefill_work
from farm.rows import CellRow
from farm.stats import median


@dataclass(frozen=True, slots=True)
class WorkPoint:
    """One phase of one row. `intensity` in FLOP/byte, `flops` in FLOP/s."""

    row: CellRow
    phase: str
    intensity: float
    flops: float
    limits: DeviceLimits


def work_points(records: Iterable[Record], rows: Iterable[CellRow]) -> tuple[WorkPoint, ...]:
    """Decode and prefill of every measured speed row whose model's shape and device's roof are known."""
    by_key = {record.key[:SHORT_KEY]: record for record in records if record.status is Status.OK}
    return tuple(point for row in rows if row.key in by_key for point in _points(row, by_key[row.key]))


def _points(row: CellRow, record: Record) -> list[WorkPoint]:
    speed, task, limits = record.speed, record.cell.task, record.limits
    architecture = record.architecture or architecture_of(record.cell.load.model)
    precision = catalog.PRECISIONS.get(row.quantization) or catalog.PRECISIONS.get(theme.family_of(row.quantization))
    if speed is None or not isinstance(task, SpeedTask) or not (limits and architecture and precision):
        return []
    shape = Shape(task.batch_size, task.context_tokens, task.new_tokens, task.cache_mode != "off")
    counted = (architecture, precision, shape, speed.memory.weights_bytes)
    phases = [
        ("decode", decode_work(*counted), _median([tpot_s(trial) for trial in speed.trials])),
        ("prefill", prefill_work(*counted), _prefill_s(speed)),
    ]
    return [_point(row, phase, work, seconds, limits) for phase, work, seconds in phases if work and seconds]


def _point(row: CellRow, phase: str, work: Work, seconds: float, limits: DeviceLimits) -> WorkPoint:
    return WorkPoint(row, phase, work.flops / work.bytes, work.flops / seconds, limits)


def _prefill_s(speed: SpeedResult) -> float | None:
    return _median([trial.prefill_s for trial in speed.trials])


def _median(samples: Iterable[float | None]) -> float | None:
    present = [sample for sample in samples if sample is not None]
    return median(present) if present else None
