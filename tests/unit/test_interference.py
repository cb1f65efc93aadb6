"""Does running side by side falsify the figures? The canary's records, the verdict on rows, where all of it is kept."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from cluster.canary import canary_cell, with_canary
from cluster.inline import InlinePool
from cluster.run import run_sweep
from farm.events import CellEnded, Ended, Event, GroupRequest, Loaded, Loading, Running
from farm.interference import Interference, Shift, interference, marked
from farm.keys import cell_key
from farm.plan import SUSPECT, group_by_load
from farm.present.figures.schedule import Schedule
from farm.present.final_report import to_json
from farm.present.report_html_parts import run_methods
from farm.records import Neighbours, Record, Status
from farm.reduce import cell_rows
from farm.store import Manifest, RunFolder
from tests.unit import record_builder as build
from tests.unit.record_builder import speed
from tests.unit.records import record, trial
from tests.unit.sweeps import cells, sweep
from tests.unit.test_driver import TICK, Clock, Driver, ScriptedPool, whole

ALONE = replace(speed(build.speed_cell(build.load())), neighbours=Neighbours(0, 0))
AMONG = Neighbours(3, 3)


def slowed(decode: float = 1.0, prefill: float = 1.0, **parts: object) -> Record:
    """The same measurement among neighbours, with its phases stretched."""
    stretched = tuple(
        replace(
            one,
            prefill_s=one.prefill_s * prefill,
            ttft_s=one.ttft_s * prefill,
            e2e_s=one.ttft_s * prefill + one.decode_s * decode,
        )
        for one in ALONE.speed.trials
    )
    return replace(ALONE, speed=replace(ALONE.speed, trials=stretched), **{"neighbours": AMONG} | parts)


def test_the_shift_is_that_of_the_medians_with_an_interval_around_it() -> None:
    found = interference(ALONE, slowed(decode=1.2), asked=True)
    assert found.decode.percent == pytest.approx(20)
    assert found.decode.ci_low < 20 < found.decode.ci_high
    assert found.prefill.percent == pytest.approx(0)
    assert (found.neighbours, found.reason) == (AMONG, None)
    assert found.is_disturbing
    assert not interference(ALONE, slowed(), asked=True).is_disturbing


def test_a_slower_prefill_alone_counts_too_and_being_faster_does_not() -> None:
    assert interference(ALONE, slowed(prefill=1.3), asked=True).is_disturbing
    assert not interference(ALONE, slowed(decode=0.7), asked=True).is_disturbing


def test_a_shift_whose_interval_reaches_below_the_limit_condemns_nothing() -> None:
    assert not Interference(decode=Shift(9.0, 4.9, 14.0), prefill=Shift(0, 0, 0)).is_disturbing
    assert Interference(decode=Shift(9.0, 5.1, 14.0), prefill=Shift(0, 0, 0)).is_disturbing


OTHER_GPU = replace(build.environment(), device_uuid="GPU-1")


@pytest.mark.parametrize(
    ("alone", "busy", "asked", "reason"),
    [
        (None, None, False, "--canary"),
        (None, None, True, "only one group could run at a time"),
        (ALONE, None, True, "only one group could run at a time"),
        (ALONE, slowed(neighbours=Neighbours(0, 3)), True, "no other group was at work"),
        (ALONE, slowed(neighbours=None), True, "no other group was at work"),
        (ALONE, slowed(environment=OTHER_GPU), True, "on two devices"),
        (build.failed(ALONE.cell, Status.OOM, "it was full"), slowed(), True, "ended oom: it was full"),
    ],
)
def test_where_there_is_no_answer_there_is_a_reason(
    alone: Record | None, busy: Record | None, asked: bool, reason: str
) -> None:
    found = interference(alone, busy, asked)
    assert (found.decode, found.prefill, found.is_disturbing) == (None, None, False)
    assert reason in found.reason


def test_a_run_that_goes_on_without_the_canary_keeps_what_it_said() -> None:
    assert interference(ALONE, slowed(decode=1.2), asked=False) == interference(ALONE, slowed(decode=1.2), asked=True)


def test_only_what_had_neighbours_is_marked_and_its_row_is_contended() -> None:
    found = interference(ALONE, slowed(decode=1.2), asked=True)
    beside, alone = marked([slowed(), ALONE], found)
    assert alone.disturbed is None
    assert "up to 3 other group(s)" in beside.disturbed and "+20.0 %" in beside.disturbed
    (row,) = cell_rows([beside])
    assert row.trust.verdict == "contended"
    assert "canary" in row.trust.verdict_evidence
    assert cell_rows([alone])[0].trust.verdict == "valid"
    assert marked([slowed()], interference(ALONE, slowed(), asked=True)) == (slowed(),)


def test_a_launch_bound_canary_speaks_for_launch_bound_rows_only() -> None:
    def enqueued(record: Record, share: float) -> Record:
        gaps = record.speed.itl_s
        clocked = replace(record.speed, device_clock="cuda_event", itl_enqueue_s=tuple(share * gap for gap in gaps))
        return replace(record, speed=clocked)

    host_bound, graph = enqueued(slowed(), 0.99), enqueued(slowed(), 0.02)
    by_the_host = interference(enqueued(ALONE, 0.99), enqueued(slowed(decode=1.4), 0.99), asked=True)
    assert [record.disturbed is not None for record in marked([host_bound, graph], by_the_host)] == [True, False]
    by_the_device = interference(enqueued(ALONE, 0.02), enqueued(slowed(decode=1.4), 0.02), asked=True)
    assert [record.disturbed is not None for record in marked([host_bound, graph], by_the_device)] == [True, True]


def test_the_report_tells_the_shift_or_why_there_is_none() -> None:
    found = interference(ALONE, slowed(decode=1.02), asked=True)
    got = json.loads(to_json([ALONE], found=found))["interference"]
    assert got["decode"]["percent"] == pytest.approx(2)
    assert (got["is_disturbing"], got["neighbours"], got["limit_percent"]) == (False, {"fewest": 3, "most": 3}, 5.0)
    nothing = json.loads(to_json([ALONE]))["interference"]
    assert nothing["decode"] is None and "--canary" in nothing["reason"]
    for language, word in (("en", "stand"), ("es", "valen")):
        busy, canary = run_methods(found, Schedule(24, 4, 100.0, 0.93, 0.1), language)
        assert "93 %" in busy and "+2.0 % [" in canary and word in canary
    assert "contended" in run_methods(interference(ALONE, slowed(1.2), True), Schedule(0, 1, 0.0, None, None), "en")[0]


def test_the_canary_is_the_sweeps_shortest_speed_cell() -> None:
    found = cells("cuda", models=["random:llama-3-8b"], engines=["eager"], contexts=[2000, 128])
    assert canary_cell(group_by_load(found)).task.context_tokens == 128
    assert canary_cell(group_by_load(found)).task.cache_mode == "on"
    assert canary_cell([]) is None
    graphs_and_launches = cells(models=["random:llama-3-8b"], quantizations=["fp16"], engines=["turbo", "eager"])
    assert canary_cell(group_by_load(graphs_and_launches)).load.engine == "eager"  # a graph would not feel the host


def test_where_one_group_runs_at_a_time_there_is_no_canary() -> None:
    groups = group_by_load(cells(quantizations=["fp16", "int8"]))
    assert with_canary(groups, ScriptedPool(Clock(), capacity=1), pytest.fail) == groups
    assert with_canary(groups[:1], ScriptedPool(Clock(), capacity=2), pytest.fail) == groups[:1]
    asked: list[object] = []
    alone, *rest = with_canary(groups, ScriptedPool(Clock(), capacity=2), lambda some: asked.extend(some) or 0)
    assert [group.shelf for group in asked] == ["canary/alone"]
    assert (alone.shelf, rest) == ("canary/busy", list(groups))


def test_one_device_reports_null_and_a_reason(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    run_sweep(sweep(canary=True, quantizations=["fp16", "int8"]), folder, InlinePool("cpu"))
    assert "only one group could run at a time" in folder.interference().reason
    assert not (tmp_path / "canary").exists()


def test_a_busy_canary_and_its_neighbours_begin_together_and_its_record_lies_apart(tmp_path: Path) -> None:
    """Two groups beside it: one is loaded at once, the other after three ticks; nobody measures before that."""
    folder, clock = RunFolder(tmp_path), Clock()
    first, second = cells(quantizations=["fp16", "int8"], cache_modes=["on"])
    folder.pin(Manifest(sweep(canary=True), "cpu", (cell_key(first), cell_key(second))))
    pool = ScriptedPool(clock, capacity=3)
    measured_at: list[float] = []

    def script(request: GroupRequest) -> list[Event | str]:
        if len(pool.requests) == 1:  # the canary
            return [Loading(1, "h"), Loaded(1.0), Running(request.keys[0], 0, 1), *whole(request)[2:]]
        late = [TICK] * 3 if request.load.quantization == "int8" else []
        return [Loading(1, "h"), *late, Loaded(1.0), Running(request.keys[0], 0, 1), *[TICK] * 4, *whole(request)[2:]]

    class Watch(Driver):
        def _handle(self, job_id: object, event: Event) -> None:
            if isinstance(event, Running):
                measured_at.append(clock.seconds)
            super()._handle(job_id, event)

    pool.script = script  # type: ignore[method-assign]
    groups = with_canary(group_by_load([first, second]), pool, lambda some: 0)
    assert Watch(folder, pool, sweep(), clock=clock).run(groups) == 0
    assert len(measured_at) == 3 and min(measured_at) >= 3
    (canary,) = folder.read("canary/busy")
    assert canary.neighbours == Neighbours(2, 2)
    assert [r.key for r in folder.results()] == [cell_key(first), cell_key(second)]
    assert [r.attempt for r in folder.results()] == [1, 1]
    assert len(folder.read()) == 2


class DisturbedPool(ScriptedPool):
    """Three groups at once; whatever runs beside others decodes half as fast."""

    def __init__(self) -> None:
        super().__init__(Clock(), capacity=3)
        self.most_after: list[int] = []

    def check(self, loads: object) -> None: ...
    def prepare(self, loads: object) -> tuple[()]:
        return ()

    def script(self, request: GroupRequest) -> list[Event | str]:
        number = len(self.requests)  # 1: the canary alone; 2 to 4: the canary and two groups; then the groups again
        self.most_after.append(len(self._live) + 1)
        slower = 2.0 if 2 <= number <= 4 else 1.0
        (key,), (cell,) = request.keys, request.cells
        trials = (trial(0, decode_s=0.3 * slower), trial(1, decode_s=0.3 * slower))
        plain = record(cell, attempt=request.attempt_of(key))
        ended = CellEnded(replace(plain, speed=replace(plain.speed, trials=trials)))
        return [Loading(1, "h"), Loaded(1.0), Running(key, 0, 1), *[TICK] * 3, Running(key, 1, 2), ended, Ended()]


@pytest.mark.parametrize("serialize", [False, True])
def test_what_was_disturbed_is_marked_and_measured_again_alone_when_asked(tmp_path: Path, serialize: bool) -> None:
    folder, pool = RunFolder(tmp_path), DisturbedPool()
    asked = sweep(canary=True, quantizations=["fp16", "int8"], cache_modes=["on"])
    summary = run_sweep(asked, folder, pool, serialize=serialize)
    assert folder.interference().is_disturbing and folder.interference().decode.percent == pytest.approx(100)
    found = {(r.attempt, r.disturbed is None, r.speed.trials[0].decode_s) for r in folder.results()}
    assert found == ({(2, True, 0.3)} if serialize else {(1, False, 0.6)})
    assert pool.most_after == [1, 1, 2, 3, 1, 1][: 6 if serialize else 4]  # how many were at work as each one started
    assert (summary.statuses, summary.measured, summary.left) == ({"ok": 2}, 2, 0)


def test_what_was_disturbed_is_suspect_to_a_later_run(tmp_path: Path) -> None:
    folder, pool = RunFolder(tmp_path), DisturbedPool()
    asked = sweep(canary=True, quantizations=["fp16", "int8"], cache_modes=["on"])
    run_sweep(asked, folder, pool)
    again = run_sweep(asked.model_copy(update={"canary": False}), folder, pool, retry=frozenset({SUSPECT}))
    assert (again.measured, {r.attempt for r in folder.results()}) == (2, {2})


def test_neighbours_are_those_of_the_same_machine_while_the_cell_was_measured(tmp_path: Path) -> None:
    folder, clock = RunFolder(tmp_path), Clock()
    found = cells(quantizations=["fp16", "int8", "nf4"], cache_modes=["on"])
    folder.pin(Manifest(sweep(), "cpu", tuple(map(cell_key, found))))
    hosts = {"fp16": "one", "int8": "one", "nf4": "two"}

    def script(request: GroupRequest) -> list[Event | str]:
        quick = request.load.quantization == "int8"
        waits = [TICK] * (1 if quick else 4)
        again = Running(request.keys[0], 1, 2)
        ended = CellEnded(record(request.cells[0]))
        return [Loading(1, hosts[request.load.quantization]), Loaded(1.0), *waits, again, ended, Ended()]

    pool = ScriptedPool(clock, capacity=3)
    pool.script = script  # type: ignore[method-assign]
    Driver(folder, pool, sweep(), clock=clock).run(group_by_load(found))
    seen = {r.cell.load.quantization: r.neighbours for r in folder.results()}
    assert seen == {"fp16": Neighbours(0, 0), "int8": Neighbours(1, 1), "nf4": Neighbours(0, 0)}


def test_a_canarys_records_are_read_from_an_archive_of_the_run_too(tmp_path: Path) -> None:
    from farm.storage.archive import pack

    folder = RunFolder(tmp_path / "run")
    folder.pin(Manifest(sweep(canary=True), "cpu", (ALONE.key,)))
    folder.write(ALONE, "canary/alone")
    folder.write(slowed(decode=1.2), "canary/busy")
    folder.write(slowed())
    (tmp_path / "run.tar.gz").write_bytes(pack(folder.storage))
    packed = RunFolder(tmp_path / "run.tar.gz")
    assert packed.interference() == folder.interference()
    assert packed.results()[0].disturbed is not None
