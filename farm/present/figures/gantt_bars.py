"""From a run's event log to the bars of its Gantt figure: pure, and robust against a driver that was killed.

Why idle time is cut: a run that was resumed a day later would be two specks a day apart. Only time in which some group
was at work counts; each cut is kept as the moment where the run went on.

    chart = chart_of(parse_events((run / "events.jsonl").read_text()), records)
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from farm.cells import Cell
from farm.keys import load_key
from farm.present import theme
from farm.records import Record

PAUSE_S = 30.0  # starting the next group takes seconds: after a longer time with no group open, the run was stopped


@dataclass(frozen=True, slots=True)
class LoggedEvent:
    """One line of events.jsonl; `at_s` is a Unix time."""

    at_s: float
    what: str
    job: int | None = None
    load: str | None = None
    key: str | None = None
    status: str | None = None
    capacity: int | None = None


@dataclass(frozen=True, slots=True)
class Mark:
    """A finished cell, in seconds of the chart."""

    at_s: float
    status: str
    label: str


@dataclass(frozen=True, slots=True)
class Bar:
    """One load group on its lane: waiting and loading from `start_s` to `loaded_s`, then measuring to `end_s`.

    `up_s`: when its process was there; `gpus`: how many devices it held.
    """

    lane: int
    start_s: float
    loaded_s: float
    end_s: float
    label: str
    quantization: str
    marks: tuple[Mark, ...] = ()
    up_s: float = 0.0
    gpus: int = 1


@dataclass(frozen=True, slots=True)
class Chart:
    """All bars; `resumed_s` are the moments where a stopped run went on; `slots` the devices that there were."""

    bars: tuple[Bar, ...]
    resumed_s: tuple[float, ...]
    slots: int = 1


@dataclass(slots=True)
class _Job:
    load: str
    start_s: float
    up_s: float | None = None
    loaded_s: float | None = None
    end_s: float | None = None
    marks: tuple[tuple[float, str, str], ...] = ()


def parse_events(text: str) -> tuple[LoggedEvent, ...]:
    """Every whole line; one that a kill cut in half is left out."""
    return tuple(event for event in map(_event, text.splitlines()) if event is not None)


def _event(line: str) -> LoggedEvent | None:
    try:
        data = json.loads(line)
        at_s = datetime.fromisoformat(data["at"]).timestamp()
        rest = ("job", "load", "key", "status", "capacity")
        return LoggedEvent(at_s, data["what"], *(data.get(name) for name in rest))
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def chart_of(events: Sequence[LoggedEvent], records: Iterable[Record]) -> Chart:
    """Bars packed on as few lanes as groups ran at once."""
    cells = {record.key: record.cell for record in records}
    loads = {load_key(cell.load): cell.load for cell in cells.values()}
    jobs = _jobs(events, {key: load_key(cell.load) for key, cell in cells.items()})
    clock, resumed = _clock(jobs)
    bars: list[Bar] = []
    for job in sorted(jobs, key=lambda job: job.start_s):
        load = loads.get(job.load)
        name = f"{load.model.short} {theme.short_title_of(load.quantization)} {load.engine}" if load else job.load
        end_s = job.end_s or job.start_s
        bar = Bar(0, clock(job.start_s), clock(job.loaded_s or end_s), clock(end_s), name, "")
        marks = tuple(Mark(clock(at), status, _label(cells, key)) for at, key, status in job.marks)
        lane = _free_lane(bars, bar.start_s)
        bar = replace(bar, lane=lane, marks=marks, up_s=clock(job.up_s or end_s))
        bars.append(replace(bar, quantization=load.quantization, gpus=load.gpus) if load else bar)
    slots = max([event.capacity or 1 for event in events], default=1)
    return Chart(tuple(bars), tuple(clock(at) for at in resumed), max([slots, *(1 + bar.lane for bar in bars)]))


def _label(cells: dict[str, Cell], key: str) -> str:
    return cells[key].label.partition(" | ")[2] if key in cells else key[:12]


def _jobs(events: Sequence[LoggedEvent], load_of: dict[str, str]) -> list[_Job]:
    """Groups in the order they started. One without an end ended with the last thing that was heard of its driver."""
    done: list[_Job] = []
    open_jobs: dict[int, _Job] = {}
    heard = 0.0
    for event in events:
        if event.what == "group_started" and event.job is not None and event.load is not None:
            if event.job in open_jobs:  # the numbers began again: another driver, the one before was killed
                done += [_closed(job, heard) for job in open_jobs.values()]
                open_jobs = {}
            open_jobs[event.job] = _Job(event.load, event.at_s)
        elif event.what == "recorded" and event.key is not None:
            _mark(open_jobs, load_of.get(event.key), event)
        elif event.job in open_jobs and event.job is not None:
            job = open_jobs[event.job]
            if event.what == "loading":
                job.up_s = event.at_s
            elif event.what == "loaded":
                job.loaded_s = event.at_s
            elif event.what == "group_ended":
                done.append(_closed(open_jobs.pop(event.job), event.at_s))
        heard = event.at_s
    return done + [_closed(job, heard) for job in open_jobs.values()]


def _closed(job: _Job, at_s: float) -> _Job:
    job.end_s = at_s
    return job


def _mark(open_jobs: dict[int, _Job], load: str | None, event: LoggedEvent) -> None:
    owner = next((job for job in reversed(open_jobs.values()) if job.load == load), None)
    if owner is not None:
        owner.marks = (*owner.marks, (event.at_s, event.key or "", event.status or ""))


class _Clock:
    """Seconds since the start, less the pauses in which nothing ran."""

    def __init__(self, pauses: Sequence[tuple[float, float]], start_s: float) -> None:
        self.pauses, self.start_s = pauses, start_s

    def __call__(self, at_s: float) -> float:
        return at_s - self.start_s - sum(max(0.0, min(at_s, end) - start) for start, end in self.pauses)


def _clock(jobs: Sequence[_Job]) -> tuple[_Clock, list[float]]:
    pauses: list[tuple[float, float]] = []
    busy_until = min((job.start_s for job in jobs), default=0.0)
    start_s = busy_until
    for job in sorted(jobs, key=lambda job: job.start_s):
        if job.start_s - busy_until > PAUSE_S:
            pauses.append((busy_until, job.start_s))
        busy_until = max(busy_until, job.end_s or job.start_s)
    return _Clock(pauses, start_s), [start for start, _ in pauses]


def _free_lane(bars: Sequence[Bar], start_s: float) -> int:
    """The first lane whose bars have all ended."""
    taken = {bar.lane for bar in bars if bar.end_s > start_s}
    return next(lane for lane in range(len(bars) + 1) if lane not in taken)
