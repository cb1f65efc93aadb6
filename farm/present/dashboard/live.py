"""What a run does now, folded from its log: its driver, the workers at work, the text they show. Pure.

    now = fold(read_log(text))
    [job.phase for job in now.jobs]    # ['loading', 'measuring']

A log may hold several drivers (killed, resumed): whatever an earlier one left open is over when the next one starts.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime

from farm.present.dashboard.log import (
    CellRecorded,
    CellRunning,
    DriverEnded,
    DriverStarted,
    Entry,
    GroupEnded,
    GroupStarted,
    PieceShown,
    WorkerLoaded,
    WorkerLoading,
)
from farm.records import Trial


@dataclass(frozen=True, slots=True)
class Driver:
    """The process that writes the records."""

    pid: int
    host: str
    capacity: int
    pool: str
    started_at: datetime
    ended_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Job:
    """One worker at work. `phase`: starting, loading, checking (the sanity gate), measuring; `key`: its cell now."""

    number: int
    load: str
    started_at: datetime
    phase: str = "starting"
    host: str | None = None
    gpus: str | None = None
    key: str | None = None
    done: int = 0
    total: int = 0
    latest: Trial | None = None


@dataclass(frozen=True, slots=True)
class Stream:
    """What a cell has shown so far; `gaps_s[0]` is the time to the first token.

    `pieces`: each piece of the text with the second it was there, so that it can be played again.
    """

    pieces: tuple[tuple[float, str], ...]
    gaps_s: tuple[float, ...]
    weights_bytes: int
    kv_bytes: int | None
    peak_allocated_bytes: int | None

    @property
    def text(self) -> str:
        return "".join(text for _, text in self.pieces)

    @property
    def ttft_s(self) -> float | None:
        return self.gaps_s[0] if self.gaps_s else None

    @property
    def decode_tok_s(self) -> float | None:
        """Of all later tokens so far."""
        later = self.gaps_s[1:]
        return len(later) / sum(later) if sum(later) > 0 else None

    @property
    def elapsed_s(self) -> float:
        return sum(self.gaps_s)


@dataclass(frozen=True, slots=True)
class Now:
    """The whole of it. `running`: each cell's latest word; it outlives the worker, as the streams do."""

    driver: Driver | None = None
    jobs: tuple[Job, ...] = ()
    running: tuple[CellRunning, ...] = ()
    streams: tuple[tuple[str, Stream], ...] = ()
    heard_at: datetime | None = None

    def stream_of(self, key: str) -> Stream | None:
        return dict(self.streams).get(key)

    def running_of(self, key: str) -> CellRunning | None:
        return next((one for one in self.running if one.key == key), None)


def fold(entries: Iterable[Entry]) -> Now:
    """Read the log from its beginning."""
    log = Log()
    for entry in entries:
        log.take(entry)
    return log.now()


class Log:
    """What the log has said up to here; grows with it, entry by entry."""

    def __init__(self) -> None:
        self.driver: Driver | None = None
        self.jobs: dict[int, Job] = {}
        self.running: dict[str, CellRunning] = {}
        self.streams: dict[str, Stream] = {}
        self.heard_at: datetime | None = None

    def now(self) -> Now:
        return Now(
            self.driver,
            tuple(self.jobs.values()),
            tuple(self.running.values()),
            tuple(self.streams.items()),
            self.heard_at,
        )

    def take(self, entry: Entry) -> None:
        self.heard_at = entry.at
        match entry:
            case DriverStarted():
                self.driver = Driver(entry.pid, entry.host, entry.capacity, entry.pool, entry.at)
                self.jobs.clear()
            case DriverEnded():
                self.driver = replace(self.driver, ended_at=entry.at) if self.driver else None
                self.jobs.clear()
            case GroupStarted():
                self.jobs[entry.job] = Job(entry.job, entry.load, entry.at)
            case WorkerLoading():
                self._change(entry.job, phase="loading", host=entry.host, gpus=entry.gpus)
            case WorkerLoaded():
                self._change(entry.job, phase="checking")
            case CellRunning():
                self.running[entry.key] = entry
                about = {"key": entry.key, "done": entry.done, "total": entry.total, "latest": entry.latest}
                self._change(entry.job, phase="measuring", **about)
            case PieceShown():
                self.streams[entry.key] = _longer(self.streams.get(entry.key), entry)
                self._change(entry.job, phase="measuring", key=entry.key)
            case GroupEnded():
                self.jobs.pop(entry.job, None)
            case CellRecorded():
                self._leave(entry.key)

    def _change(self, number: int, **changes: object) -> None:
        if number in self.jobs:
            self.jobs[number] = replace(self.jobs[number], **changes)  # type: ignore[arg-type]

    def _leave(self, key: str) -> None:
        for number, job in self.jobs.items():
            if job.key == key:
                self.jobs[number] = replace(job, key=None, done=0, total=0, latest=None)


def _longer(stream: Stream | None, piece: PieceShown) -> Stream:
    """A first piece begins anew: the cell was tried again."""
    before = stream if stream is not None and piece.first_token > 0 else None
    gaps_s = (before.gaps_s if before else ()) + piece.gaps_s
    return Stream(
        ((*before.pieces, (sum(gaps_s), piece.text)) if before else ((sum(gaps_s), piece.text),)),
        gaps_s,
        piece.weights_bytes,
        piece.kv_bytes,
        piece.peak_allocated_bytes,
    )
