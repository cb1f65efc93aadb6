"""What each phase of a measured cell had to do, and how fast it did it: the points of the roofline figure.

The physics: arithmetic intensity is FLOPs per byte moved. Left of the device's ridge a phase waits for memory, right
of it for arithmetic; decode lies far left, a long prompt right.

    work_points(records)[0].intensity    # 1.0 FLOP a byte: decode of 16-bit weights at batch 1

Work is counted by `farm.roofline`: what must be done, so a point never flatters.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from farm.device_facts import DeviceLimits
from farm.device_rows import phases_of
from farm.records import Record, Status
from farm.reduce import SHORT_KEY
from farm.roofline import Work
from farm.rows import CellRow


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
    phases, limits = phases_of(record), record.limits
    if phases is None or limits is None:
        return []
    timed = [("decode", phases.decode, phases.step_s), ("prefill", phases.prefill, phases.prefill_s)]
    return [_point(row, phase, work, seconds, limits) for phase, work, seconds in timed if work and seconds]


def _point(row: CellRow, phase: str, work: Work, seconds: float, limits: DeviceLimits) -> WorkPoint:
    return WorkPoint(row, phase, work.flops / work.bytes, work.flops / seconds, limits)
