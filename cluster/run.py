"""Running a sweep, from the file to the records: what `farm run`, `farm resume` and `jobs/submit.py` share."""

import os
import platform
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

from cluster.canary import with_canary
from cluster.driver import Driver
from cluster.pool import Pool
from farm.cells import Cell
from farm.expand import expand
from farm.keys import cell_key
from farm.observer import Observer
from farm.plan import LoadGroup, Plan, group_by_load, make_plan, predicted_bytes
from farm.records import Failure, Record, Status
from farm.store import Manifest, RunFolder
from farm.sweep import Sweep
from farm.timestamps import now
from jobs.preparing import loads_to_prepare


@dataclass(frozen=True, slots=True)
class RunSummary:
    """What one run did. `statuses` counts every cell of the sweep, those of earlier runs included.

    `left`: cells not measured because the run was told to stop before.
    """

    measured: int
    kept: int
    statuses: dict[str, int]
    wall_s: float
    left: int = 0

    @property
    def exit_code(self) -> int:
        """0 when every cell is ok, 1 when any is not or is left."""
        return 0 if set(self.statuses) <= {Status.OK.value} and not self.left else 1


def run_sweep(
    sweep: Sweep,
    folder: RunFolder,
    pool: Pool,
    retry: frozenset[str] = frozenset(),
    observer: Observer | None = None,
    show: bool = False,
    stop_after_s: float | None = None,
    serialize: bool = False,
) -> RunSummary:
    """Measure what the folder does not hold yet. Raises FarmError; whatever was finished is safe in any case.

    `show`: each cell first generates once, untimed, for those who watch. `stop_after_s`: end then, in the middle of a
    cell if need be, the groups with the least time a cell first; running again goes on from there. `serialize`: what
    its neighbours disturbed, as the canary tells, is measured again, one group at a time.
    """
    began = time.monotonic()
    observer = observer or Observer()
    with folder.locked():
        cells = expand(sweep, pool.device)
        pool.check(dict.fromkeys(cell.load for cell in cells))
        folder.pin(Manifest(sweep, pool.device, tuple(cell_key(cell) for cell in cells)))
        may_stop = stop_after_s is not None
        plan = make_plan(cells, folder.judged(), retry, pool.device_memory_bytes, most_cells_first=may_stop)
        observer.planned(plan, pool.describe())
        stop_at_s = None if stop_after_s is None else began + stop_after_s
        with _announced(folder, pool):
            _record_misfits(folder, plan, pool, observer)
            prepare(pool, [cell for group in plan.todo for cell in group.cells], observer)
            drive = partial(Driver, folder, pool, sweep, observer, show=show, stop_at_s=stop_at_s)
            todo = with_canary(plan.todo, pool, drive().run) if sweep.canary else plan.todo
            left = drive().run(todo)
            if serialize:
                left += drive(most_at_once=1).run(disturbed_groups(folder))
        statuses = Counter(record.status.value for record in folder.results())
    done, wall_s = plan.todo_cells - left, time.monotonic() - began
    return RunSummary(done, len(plan.kept), dict(sorted(statuses.items())), wall_s, left)


def disturbed_groups(folder: RunFolder) -> tuple[LoadGroup, ...]:
    """What has to be measured again with nobody beside it."""
    return group_by_load(record.cell for record in folder.results() if record.disturbed is not None)


@contextmanager
def _announced(folder: RunFolder, pool: Pool) -> Iterator[None]:
    """The log says which process drives this run, so that others can see whether it still does."""
    who = {"pid": os.getpid(), "host": platform.node()}
    folder.log_event(at=now(), what="driver_started", capacity=pool.capacity, pool=pool.describe(), **who)
    try:
        yield
    finally:
        folder.log_event(at=now(), what="driver_ended", **who)


def prepare(pool: Pool, cells: Sequence[Cell], observer: Observer) -> int:
    """Fetch the models and make the checkpoints that these cells need; what is there already costs nothing. Returns how
    many could not be had.

    One that cannot be had stops nothing: its cells end with the reason when they are loaded.
    """
    loads = loads_to_prepare(cells)
    observer.preparing(loads)
    problems = 0
    for done in pool.prepare(loads):
        problems += done.problem is not None
        observer.prepared(done)
    return problems


def _record_misfits(folder: RunFolder, plan: Plan, pool: Pool, observer: Observer) -> None:
    for cell in plan.misfits:
        key = cell_key(cell)
        needed, there = (predicted_bytes(cell) or 0) / 1e9, (pool.device_memory_bytes or 0) / 1e9
        failure = Failure(f"weights and KV cache alone need {needed:.1f} GB, the device has {there:.1f} GB; not run")
        at = now()
        record = Record(key, folder.next_attempt(key), Status.PREDICTED_OOM, cell, at, at, failure=failure)
        folder.write(record)
        observer.recorded(record)


@contextmanager
def open_pool(
    kind: str, device: str, address: str | None = None, num_gpus: int | None = None, wait_s: float = 0.0
) -> Iterator[Pool]:
    """`ray` (local, or the cluster at `address`) or `inline`; closed again whatever happens.

    `wait_s`: how long to wait for GPUs that an autoscaler has yet to start.
    """
    pool = _inline(device) if kind == "inline" else _ray(device, address, num_gpus, wait_s)
    try:
        yield pool
    finally:
        pool.close()


def _inline(device: str) -> Pool:
    from cluster.inline import InlinePool
    from jobs.devices import device_memory_bytes, resolve_device

    resolved = resolve_device(device)
    return InlinePool(resolved, device_memory_bytes(resolved))


def _ray(device: str, address: str | None, num_gpus: int | None, wait_s: float) -> Pool:
    from cluster.ray_cluster import connect
    from cluster.ray_pool import RayPool

    started_here = connect(address or os.environ.get("RAY_ADDRESS"), num_gpus)
    return RayPool(started_here, device, wait_s)
