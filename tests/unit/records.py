"""Small records for tests of the store, the plan and the driver."""

from farm.cells import Cell
from farm.keys import cell_key
from farm.records import Effective, Failure, Memory, Record, SpeedResult, Status, Trial

AT = "2026-01-01T00:00:00.000+00:00"


def trial(index: int = 0, ttft_s: float = 0.1, decode_s: float = 0.3, tokens: int = 4) -> Trial:
    return Trial(index, (index,), ttft_s, ttft_s, decode_s, ttft_s + decode_s, tokens, decode_s)


def record(cell: Cell, status: Status = Status.OK, attempt: int = 1) -> Record:
    """A finished record of a speed cell, or a failure."""
    speed = SpeedResult((trial(0), trial(1)), (0.1, 0.1, 0.1), Memory(), Effective({}, {}), "prompts", "fake")
    ok = status is Status.OK
    parts = {"speed": speed} if ok else {"failure": Failure(f"it was {status.value}")}
    return Record(cell_key(cell), attempt, status, cell, AT, AT, **parts)
