"""The driver: starts load groups, writes each finished point at once, and deals with every way a worker can end.

    Driver(folder, pool, sweep).run(plan.todo)

Only the driver retries, so an attempt number always means the same thing. A cell whose process died is tried again
(`limits.retries`), alone; the cells that were waiting behind it go on in a fresh process. A cell that raised is not
tried again in the same run: it would raise again.
"""

import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, replace

from cluster.job import Job, note_neighbours
from cluster.pool import JobId, Pool
from farm.errors import StoreError
from farm.events import CellEnded, Died, Ended, Event, GroupRequest, Loaded, Loading, Running, Shown
from farm.interruption import raise_if_asked
from farm.keys import cell_key, load_key
from farm.observer import Observer
from farm.plan import LoadGroup
from farm.records import Failure, Record, Status
from farm.store import RunFolder
from farm.sweep import Sweep
from farm.timestamps import now

POLL_S = 0.5
TELL_S = 1.0  # cells take turns, often many times a second: the log tells of one of them a second
LOST_STARTS = 3  # of one load, by loss of its node: more is no coincidence
DEATHS_TRIED_AGAIN = (Status.CRASH, Status.HOST_OOM)


class Driver:
    """Runs load groups on a pool until each of their cells has a record."""

    def __init__(
        self,
        folder: RunFolder,
        pool: Pool,
        sweep: Sweep,
        observer: Observer | None = None,
        clock: Callable[[], float] = time.monotonic,
        show: bool = False,
        stop_at_s: float | None = None,
        most_at_once: float = math.inf,
    ) -> None:
        """`stop_at_s`: the clock's reading at which `run` returns with what is done until then."""
        self.folder, self.pool, self.sweep, self.limits = folder, pool, sweep, sweep.limits
        self.observer, self.clock = observer or Observer(), clock
        self.stop_at_s = math.inf if stop_at_s is None else stop_at_s
        self._queue: deque[LoadGroup] = deque()
        self._jobs: dict[JobId, Job] = {}
        self._deaths: dict[str, int] = {}
        self._lost_starts: dict[str, int] = {}
        self._most_at_once, self._show = most_at_once, show

    def run(self, groups: Sequence[LoadGroup]) -> int:
        """Until every cell has a record, or `stop_at_s`. Returns how many are left; workers are killed in any case."""
        self._queue.extend(groups)
        try:
            while (self._queue or self._jobs) and self.clock() < self.stop_at_s:
                raise_if_asked()
                self._start_what_fits()
                for job, event in self.pool.events(POLL_S, self._held()):
                    self._handle(job, event)
                    note_neighbours(self._jobs.values())
                self._end_the_overdue()
            return self._left()
        finally:
            for job in list(self._jobs):
                with suppress(StoreError):  # a full disk refuses the log's line, too: no worker may be left over for it
                    self._drop(job)

    def _left(self) -> int:
        waiting = [len(group.cells) for group in self._queue if group.canary is None]
        return sum(waiting) + sum(len(job.owed) for job in self._jobs.values() if job.group.canary is None)

    def _start_what_fits(self) -> None:
        """In the queue's order; a group that has to wait for room does not hold up those behind it."""
        for group in list(self._queue):
            if len(self._jobs) >= self._most_at_once:
                return
            if self.pool.has_room(group.load):
                self._queue.remove(group)
                self._start(group)

    def _start(self, group: LoadGroup) -> None:
        keys = tuple(cell_key(cell) for cell in group.cells)
        attempts = tuple(self.folder.next_attempt(key, group.shelf) for key in keys)
        how = (self.sweep.seed, self.sweep.interleave, self.sweep.max_ppl_ratio, self._show, self.limits.more_runs_s)
        request = GroupRequest(group.load, group.cells, keys, attempts, *how)
        job = self.pool.start(request, self.sweep.runtime_env_of(group.load.quantization))
        owed = dict(zip(keys, group.cells, strict=True))
        self._jobs[job] = Job(group, owed, self.clock(), now())
        self.observer.started(job, group)
        self._log(job, "group_started", cells=len(owed))

    def _held(self) -> frozenset[JobId]:
        """A busy canary and its neighbours begin to measure together: who is loaded waits for the others.

        Not taking a worker's next event is enough: it goes on only when the driver has taken the last one.
        """
        jobs = self._jobs.items()
        waits = any(job.group.canary == "busy" and not job.has_begun for _, job in jobs)
        if not waits or all(job.loaded for _, job in jobs):
            return frozenset()
        held = {key: job for key, job in jobs if job.loaded and not job.has_begun}
        for job in held.values():
            job.started_s = self.clock()
        return frozenset(held)

    def _handle(self, job_id: JobId, event: Event) -> None:
        job = self._jobs.get(job_id)
        if job is None:  # killed a moment ago; what it still had to say no longer counts
            return
        self.observer.event(job_id, event)
        match event:
            case Loading():
                job.host, job.started_s = event.host, self.clock()
                self._log(job_id, "loading", pid=event.pid, host=event.host, gpus=event.gpus)
            case Loaded():
                job.loaded = True
                self._log(job_id, "loaded", load_s=event.load_s)
            case Running():
                job.turn_to(event.key, self.clock())
                self._tell(job_id, job, event)
            case Shown():
                self._log(job_id, "shown", **asdict(event))
            case CellEnded():
                job.turn_to(None, self.clock())
                self._keep(job, replace(event.record, neighbours=job.beside.get(event.record.key)))
                job.owed.pop(event.record.key, None)
            case Ended():
                self._ended(job_id, event)
            case Died():
                if event.node_lost and self._is_let_off(job):
                    self._start_again(job_id)
                else:
                    self._died(job_id, event.status, event.message)

    def _tell(self, job_id: JobId, job: Job, event: Running) -> None:
        if self.clock() - job.told_s >= TELL_S:
            job.told_s = self.clock()
            self._log(job_id, "running", **asdict(event))

    def _ended(self, job_id: JobId, event: Ended) -> None:
        job = self._jobs[job_id]
        made_progress = len(job.owed) < len(job.group.cells)
        self._drop(job_id)
        if event.poisoned and made_progress:
            self._requeue(job, list(job.owed))
        else:  # without this a worker that skips cells would be started for ever
            self._fail(job, list(job.owed), Status.ERROR, "the worker ended without measuring this cell: a bug")

    def _is_let_off(self, job: Job) -> bool:
        """A group whose node went before it could measure has done nothing wrong; but not for ever."""
        if job.loaded:
            return False
        load = load_key(job.group.load)
        self._lost_starts[load] = self._lost_starts.get(load, 0) + 1
        return self._lost_starts[load] <= LOST_STARTS

    def _start_again(self, job_id: JobId) -> None:
        job = self._jobs[job_id]
        self._drop(job_id)
        self._requeue(job, list(job.owed))

    def _died(self, job_id: JobId, status: Status, message: str) -> None:
        """Blame the suspects; try them again if they have tries left; let the others go on."""
        job = self._jobs[job_id]
        suspects = job.suspects()
        if status is Status.HOST_OOM:  # the node's memory is short: fewer at once from now on
            self._most_at_once = max(1, len(self._jobs) - 1)
        self._fail(job, suspects, status, message if job.loaded else f"while loading: {message}")
        self._drop(job_id)
        self._requeue(job, [key for key in job.owed if key not in suspects])
        self._requeue(job, [key for key in suspects if self._may_try_again(key, status)])

    def _may_try_again(self, key: str, status: Status) -> bool:
        self._deaths[key] = self._deaths.get(key, 0) + 1
        return status in DEATHS_TRIED_AGAIN and self._deaths[key] <= self.limits.retries

    def _end_the_overdue(self) -> None:
        time_s = self.clock()
        for job_id, job in list(self._jobs.items()):
            if time_s - job.started_s > self.limits.group_timeout_s:
                self._fail(job, list(job.owed), Status.TIMEOUT, _over("group", self.limits.group_timeout_s))
                self._drop(job_id)
            elif job.alive and not job.loaded and time_s - job.started_s > self.limits.load_timeout_s:
                self._died(job_id, Status.TIMEOUT, _over("load", self.limits.load_timeout_s))
            elif job.spent_on_running(time_s) > self.limits.cell_timeout_s:
                self._died(job_id, Status.TIMEOUT, _over("cell", self.limits.cell_timeout_s))

    def _fail(self, job: Job, keys: Sequence[str], status: Status, message: str) -> None:
        for key in keys:
            attempt = self.folder.next_attempt(key, job.group.shelf)
            failure = Failure(message)
            self._keep(job, Record(key, attempt, status, job.owed[key], job.started_at, now(), failure=failure))

    def _requeue(self, job: Job, keys: Sequence[str]) -> None:
        cells = tuple(job.owed[key] for key in keys)
        if cells:
            self._queue.append(replace(job.group, cells=cells))

    def _keep(self, job: Job, record: Record) -> None:
        try:
            self.folder.write(record, job.group.shelf)
        except ValueError as error:  # a NaN in it: one cell's bug must not end the sweep
            failure = Failure(f"its record cannot be written ({error}): a bug")
            record = Record(
                record.key,
                record.attempt,
                Status.ERROR,
                record.cell,
                record.started_at,
                record.ended_at,
                failure=failure,
            )
            self.folder.write(record, job.group.shelf)
        if job.group.canary is not None:
            self.observer.canary(job.group.canary, record)
            self.folder.log_event(at=now(), what="canary", which=job.group.canary, status=record.status.value)
            return
        self.observer.recorded(record)
        self.folder.log_event(
            at=now(), what="recorded", key=record.key, attempt=record.attempt, status=record.status.value
        )

    def _drop(self, job_id: JobId) -> None:
        job = self._jobs.pop(job_id)
        self.pool.kill(job_id)
        self.observer.ended(job_id)
        self.folder.log_event(at=now(), what="group_ended", job=job_id.number, load=load_key(job.group.load))

    def _log(self, job_id: JobId, what: str, **more: object) -> None:
        load = load_key(self._jobs[job_id].group.load)
        self.folder.log_event(at=now(), what=what, job=job_id.number, load=load, **more)


def _over(what: str, limit_s: float) -> str:
    return f"exceeded limits.{what}_timeout_s = {limit_s:g} s; raise it in the sweep if the work is sound"
