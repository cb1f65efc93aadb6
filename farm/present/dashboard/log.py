"""A run's event log as typed events: what the driver wrote, one dataclass a kind of line.

Why read twice (`farm.present.figures.gantt_bars` reads the same file): the Gantt figure needs five fields of a finished
run, a live view needs who drives it, what each worker does now and the text that is being shown.

    read_log(text)[0]    # DriverStarted(at=..., pid=4242, host='node-1', capacity=2, pool='a local Ray, ...')
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Final, Literal

from pydantic import Field, TypeAdapter, ValidationError

from farm.records import Status, Trial


@dataclass(frozen=True, slots=True)
class DriverStarted:
    """A process began to drive this run, `capacity` load groups at once."""

    what: Literal["driver_started"]
    at: datetime
    pid: int
    host: str
    capacity: int = 1
    pool: str = ""


@dataclass(frozen=True, slots=True)
class DriverEnded:
    """It left by itself; a killed one says nothing."""

    what: Literal["driver_ended"]
    at: datetime


@dataclass(frozen=True, slots=True)
class GroupStarted:
    """A load group was handed to a worker."""

    what: Literal["group_started"]
    at: datetime
    job: int
    load: str
    cells: int = 0


@dataclass(frozen=True, slots=True)
class WorkerLoading:
    """Its worker is alive and loads the model."""

    what: Literal["loading"]
    at: datetime
    job: int
    pid: int
    host: str
    gpus: str | None = None


@dataclass(frozen=True, slots=True)
class WorkerLoaded:
    """The model is ready."""

    what: Literal["loaded"]
    at: datetime
    job: int
    load_s: float


@dataclass(frozen=True, slots=True)
class CellRunning:
    """Repetition `done` of `total` of a cell comes next."""

    what: Literal["running"]
    at: datetime
    job: int
    key: str
    done: int
    total: int
    latest: Trial | None = None


@dataclass(frozen=True, slots=True)
class PieceShown:
    """A piece of a generation for people to watch (`jobs.show`)."""

    what: Literal["shown"]
    at: datetime
    job: int
    key: str
    first_token: int
    text: str
    gaps_s: tuple[float, ...]
    weights_bytes: int
    kv_bytes: int | None = None
    peak_allocated_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class CellRecorded:
    """A point is on disk."""

    what: Literal["recorded"]
    at: datetime
    key: str
    status: Status
    attempt: int = 1


@dataclass(frozen=True, slots=True)
class GroupEnded:
    """The worker is gone, for whatever reason."""

    what: Literal["group_ended"]
    at: datetime
    job: int


Entry = (
    DriverStarted
    | DriverEnded
    | GroupStarted
    | WorkerLoading
    | WorkerLoaded
    | CellRunning
    | PieceShown
    | CellRecorded
    | GroupEnded
)
_ADAPTER: Final[TypeAdapter[Entry]] = TypeAdapter(Annotated[Entry, Field(discriminator="what")])


def read_log(text: str) -> tuple[Entry, ...]:
    """Every whole line that this version knows; one that a kill cut in half is left out."""
    return tuple(entry for entry in map(_entry, _lines(text)) if entry is not None)


def _lines(text: str) -> Iterable[str]:
    return (line for line in text.split("\n") if line)


def _entry(line: str) -> Entry | None:
    try:
        return _ADAPTER.validate_json(line)
    except ValidationError:
        return None
