"""The driver against a scripted pool and a clock in hand: every way a worker can end."""

from collections.abc import Iterator, Set
from dataclasses import replace
from pathlib import Path

import pytest

from cluster.driver import Driver
from cluster.pool import JobId
from farm.cells import Cell, Load
from farm.errors import StoreError
from farm.events import CellEnded, Died, Ended, Event, GroupRequest, Loaded, Loading, Running
from farm.keys import cell_key
from farm.plan import group_by_load, make_plan
from farm.records import Record, Status
from farm.store import Manifest, RunFolder
from tests.unit.records import record
from tests.unit.sweeps import cells, sweep

DEATH = Died(Status.CRASH, "segfault")
TICK = "tick"  # in a script: a second passes and nothing comes in


class ScriptedPool:
    """Plays one list of events for each group that is started, in order; `capacity` at once."""

    device, device_memory_bytes = "cpu", None

    def __init__(self, clock: "Clock", capacity: int = 1) -> None:
        self.clock, self.capacity = clock, capacity
        self.requests: list[GroupRequest] = []
        self.killed: list[JobId] = []
        self.most_at_once = 0
        self._live: dict[JobId, Iterator[Event | str]] = {}

    def has_room(self, load: Load) -> bool:
        return len(self._live) < self.capacity

    def script(self, request: GroupRequest) -> list[Event | str]:
        raise NotImplementedError

    def start(self, request: GroupRequest, env: object) -> JobId:
        self.requests.append(request)
        job = JobId(len(self.requests))
        self._live[job] = iter(self.script(request))
        self.most_at_once = max(self.most_at_once, len(self._live))
        return job

    def events(self, timeout_s: float, held: Set[JobId] = frozenset()) -> Iterator[tuple[JobId, Event]]:
        for job, events in [(job, events) for job, events in self._live.items() if job not in held]:
            event = next(events, TICK)
            if event == TICK:
                self.clock.seconds += 1
            else:
                yield job, event

    def kill(self, job: JobId) -> None:
        self.killed.append(job)
        self._live.pop(job, None)

    def settle(self) -> None: ...
    def close(self) -> None: ...
    def describe(self) -> str:
        return "scripted"


class Clock:
    seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


def whole(request: GroupRequest) -> list[Event | str]:
    """A group that goes well."""
    ended = [
        CellEnded(record(c, attempt=request.attempt_of(k))) for k, c in zip(request.keys, request.cells, strict=False)
    ]
    return [Loading(1, "h"), Loaded(1.0), *ended, Ended()]


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    made = RunFolder(tmp_path)
    with made.locked():
        made.pin(Manifest(sweep(), "cpu", tuple(cell_key(c) for c in CELLS)))
    return made


CELLS = cells(contexts=[16, 32])


def drive(folder: RunFolder, script, found: tuple[Cell, ...] = CELLS, capacity: int = 1, **limits: float):
    clock = Clock()
    pool = ScriptedPool(clock, capacity)
    pool.script = script  # type: ignore[method-assign]
    Driver(folder, pool, sweep(limits=limits), clock=clock).run(group_by_load(found))
    return pool


def statuses(folder: RunFolder) -> list[str]:
    return [r.status.value for r in folder.results()]


def attempts(folder: RunFolder) -> list[int]:
    return [r.attempt for r in folder.results()]


def test_all_goes_well(folder: RunFolder) -> None:
    pool = drive(folder, whole)
    assert statuses(folder) == ["ok"] * 4
    assert len(pool.requests) == 1
    assert pool.killed == [JobId(1)]


def test_a_death_is_the_running_cells_and_the_others_go_on(folder: RunFolder) -> None:
    def script(request: GroupRequest) -> list[Event | str]:
        if len(request.keys) == 4:  # dies at the second cell, after the first has ended
            first, second = request.keys[:2]
            return [Loaded(1.0), Running(first, 0, 4), CellEnded(record(CELLS[0])), Running(second, 0, 4), DEATH]
        return whole(request)

    pool = drive(folder, script)
    assert statuses(folder) == ["ok"] * 4
    assert attempts(folder) == [1, 2, 1, 1]
    assert [len(r.keys) for r in pool.requests] == [4, 2, 1]  # the bystanders first, the suspect alone
    assert [r.status for r in folder.read() if r.key == cell_key(CELLS[1])] == [Status.CRASH, Status.OK]


def test_a_death_is_tried_again_as_often_as_allowed(folder: RunFolder) -> None:
    def always_dies(request: GroupRequest) -> list[Event | str]:
        return [Loaded(1.0), Running(request.keys[0], 0, 4), DEATH]

    drive(folder, always_dies, CELLS[:1], retries=2)
    assert [(r.attempt, r.status) for r in folder.read()] == [(n, Status.CRASH) for n in (1, 2, 3)]


def test_a_death_while_loading_is_everybodys(folder: RunFolder) -> None:
    drive(folder, lambda request: [Loading(1, "h"), DEATH], retries=1)
    assert statuses(folder) == ["crash"] * 4
    assert attempts(folder) == [2] * 4
    assert all(r.failure.message.startswith("while loading: ") for r in folder.read())


def test_a_host_out_of_memory_is_tried_again_with_fewer_at_once(folder: RunFolder) -> None:
    found = cells(quantizations=["fp16", "bf16", "int8"])
    folder.pin(Manifest(sweep(), "cpu", tuple(cell_key(c) for c in found)))
    died: set[str] = set()

    def script(request: GroupRequest) -> list[Event | str]:
        if request.load.quantization not in died:
            died.add(request.load.quantization)
            return [Loading(1, "h"), Died(Status.HOST_OOM, "host memory")]
        return whole(request)

    pool = drive(folder, script, found, capacity=3)
    assert pool.most_at_once == 3
    assert statuses(folder) == ["ok"] * 6


def test_a_hang_ends_at_the_cells_limit_and_is_not_tried_again(folder: RunFolder) -> None:
    def script(request: GroupRequest) -> list[Event | str]:
        if CELLS[0] in request.cells:
            return [Loaded(1.0), Running(request.keys[0], 0, 4)]  # and then nothing, for ever
        return whole(request)

    pool = drive(folder, script, cell_timeout_s=30)
    assert statuses(folder) == ["timeout", "ok", "ok", "ok"]
    assert JobId(1) in pool.killed
    assert "limits.cell_timeout_s = 30 s" in folder.results()[0].failure.message


def test_turns_of_one_cell_add_up_to_its_limit(folder: RunFolder) -> None:
    """Cells take turns: each turn is short, but the sum of a cell's own turns is what its limit bounds."""

    def script(request: GroupRequest) -> list[Event | str]:
        if len(request.keys) < 2:
            return whole(request)
        slow, quick = request.keys
        turns: list[Event | str] = []
        for _ in range(40):
            turns += [Running(slow, 0, 4), TICK, Running(quick, 0, 4)]
        return [Loaded(1.0), *turns]

    drive(folder, script, CELLS[:2], cell_timeout_s=30)
    assert statuses(folder)[0] == "timeout"
    assert statuses(folder)[1] == "ok"


def test_a_load_that_never_ends(folder: RunFolder) -> None:
    drive(folder, lambda request: [Loading(1, "h")], load_timeout_s=20)
    assert statuses(folder) == ["timeout"] * 4


def test_a_node_lost_before_anything_was_measured_costs_no_attempt_but_not_for_ever(folder: RunFolder) -> None:
    gone, losses = Died(Status.CRASH, "the worker's node is gone", node_lost=True), 2

    def script(request: GroupRequest) -> list[Event | str]:
        return [Loading(1, "h"), gone] if len(pool_of_requests) <= losses else whole(request)

    pool_of_requests: list[GroupRequest] = []
    drive(folder, lambda request: pool_of_requests.append(request) or script(request))
    assert (statuses(folder), attempts(folder)) == (["ok"] * 4, [1] * 4)


def test_a_load_whose_nodes_always_go_ends_with_a_row(folder: RunFolder) -> None:
    gone = Died(Status.CRASH, "the worker's node is gone", node_lost=True)
    pool = drive(folder, lambda request: [Loading(1, "h"), gone], retries=1)
    assert statuses(folder) == ["crash"] * 4
    assert len(pool.requests) == 5  # three let off, one blamed, one try more


def test_a_node_lost_while_a_cell_is_measured_is_its_row(folder: RunFolder) -> None:
    gone = Died(Status.CRASH, "the worker's node is gone", node_lost=True)
    drive(folder, lambda request: [Loaded(1.0), Running(request.keys[0], 0, 4), gone], CELLS[:1], retries=0)
    assert statuses(folder)[0] == "crash"


def test_waiting_for_a_worker_is_no_loading(folder: RunFolder) -> None:
    """On a shared cluster a group may wait an hour for its GPU; its own clocks start with its process."""

    def script(request: GroupRequest) -> list[Event | str]:
        return [*[TICK] * 15, Loading(1, "h"), *[TICK] * 15, *whole(request)[1:]]

    drive(folder, script, load_timeout_s=20, group_timeout_s=25)
    assert statuses(folder) == ["ok"] * 4


def test_a_group_that_has_to_wait_does_not_hold_up_those_behind_it(folder: RunFolder) -> None:
    found = cells(quantizations=["fp16", "int8"])
    folder.pin(Manifest(sweep(), "cpu", tuple(cell_key(c) for c in found)))
    clock = Clock()
    pool = ScriptedPool(clock)
    pool.script = whole  # type: ignore[method-assign]
    pool.has_room = lambda load: bool(pool.requests) or load.quantization == "int8"  # type: ignore[method-assign]
    Driver(folder, pool, sweep(), clock=clock).run(group_by_load(found))
    assert [request.load.quantization for request in pool.requests] == ["int8", "fp16"]


def test_a_full_disk_ends_the_run_and_leaves_no_worker(folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    pool = ScriptedPool(clock, capacity=2)
    pool.script = whole  # type: ignore[method-assign]
    found = cells(quantizations=["fp16", "int8"])

    def full(*_: object) -> None:
        raise StoreError("no space left")

    monkeypatch.setattr(type(folder.storage), "log", lambda *_: None)

    def refuse(folder: RunFolder, one: Record, shelf: str) -> None:
        monkeypatch.setattr(type(folder.storage), "log", full)
        raise StoreError("no space left")

    monkeypatch.setattr(RunFolder, "write", refuse)
    with pytest.raises(StoreError, match="no space left"):
        Driver(folder, pool, sweep(), clock=clock).run(group_by_load(found))
    assert set(pool.killed) == {JobId(1), JobId(2)}


def test_a_group_over_its_limit_gives_a_row_to_every_cell_it_owes(folder: RunFolder) -> None:
    def script(request: GroupRequest) -> list[Event | str]:
        return [Loaded(1.0), CellEnded(record(CELLS[0]))]

    drive(folder, script, group_timeout_s=50)
    assert statuses(folder) == ["ok", "timeout", "timeout", "timeout"]


def test_a_poisoned_process_measures_no_more(folder: RunFolder) -> None:
    def script(request: GroupRequest) -> list[Event | str]:
        if len(request.keys) == 4:
            return [Loaded(1.0), CellEnded(record(CELLS[0], Status.OOM)), Ended(poisoned=True)]
        return whole(request)

    pool = drive(folder, script)
    assert statuses(folder) == ["oom", "ok", "ok", "ok"]
    assert [len(r.keys) for r in pool.requests] == [4, 3]


def test_a_worker_that_forgets_a_cell_does_not_loop_for_ever(folder: RunFolder) -> None:
    pool = drive(folder, lambda request: [Loaded(1.0), Ended()])
    assert statuses(folder) == ["error"] * 4
    assert len(pool.requests) == 1


def test_a_record_that_is_no_json_is_a_typed_row_and_the_others_go_on(folder: RunFolder) -> None:
    """NaN is never a result; the driver used to end with a traceback, and every resume with it."""

    def script(request: GroupRequest) -> list[Event | str]:
        loading, loaded, first, *rest = whole(request)
        assert isinstance(first, CellEnded)
        return [loading, loaded, CellEnded(replace(first.record, load_s=float("nan"))), *rest]

    drive(folder, script)
    assert statuses(folder) == ["error", "ok", "ok", "ok"]
    assert "cannot be written" in folder.results()[0].failure.message


def test_ctrl_c_kills_the_workers_and_keeps_what_is_finished(folder: RunFolder) -> None:
    def script(request: GroupRequest) -> Iterator[Event]:
        yield CellEnded(record(CELLS[0]))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        drive(folder, script)
    assert statuses(folder) == ["ok"]
    assert make_plan(CELLS, folder.read()).todo_cells == 3


def test_no_more_groups_at_once_than_the_pool_has_room_for(folder: RunFolder) -> None:
    found = cells(quantizations=["fp16", "bf16", "int8"])
    pool = drive(folder, whole, found, capacity=2)
    assert (pool.most_at_once, len(pool.requests)) == (2, 3)


def test_events_of_a_killed_worker_no_longer_count(folder: RunFolder) -> None:
    driver = Driver(folder, ScriptedPool(Clock()), sweep(), clock=Clock())
    driver._handle(JobId(99), CellEnded(record(CELLS[0])))
    assert folder.read() == ()


def test_a_poisoned_worker_that_measured_nothing_is_not_started_for_ever(folder: RunFolder) -> None:
    pool = drive(folder, lambda request: [Loaded(1.0), Ended(poisoned=True)])
    assert statuses(folder) == ["error"] * 4
    assert len(pool.requests) == 1


def test_a_run_stops_in_time_keeps_what_is_done_and_the_next_one_goes_on(folder: RunFolder) -> None:
    def slowly(request: GroupRequest) -> list[Event | str]:
        first, *rest = [event for event in whole(request) if isinstance(event, CellEnded)]
        return [Loading(1, "h"), Loaded(1.0), first, *[TICK] * 10, *rest, Ended()]

    clock = Clock()
    pool = ScriptedPool(clock)
    pool.script = slowly  # type: ignore[method-assign]
    assert Driver(folder, pool, sweep(), clock=clock, stop_at_s=5).run(group_by_load(CELLS)) == 3
    assert (statuses(folder), pool.killed, clock.seconds) == (["ok"], [JobId(1)], 5)
    again = drive(folder, whole, tuple(cell for group in make_plan(CELLS, folder.read()).todo for cell in group.cells))
    assert statuses(folder) == ["ok"] * 4
    assert len(again.requests[0].cells) == 3
