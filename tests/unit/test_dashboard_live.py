"""What the dashboard makes of a run's log and records: who works, how far, how long still. No browser, no server."""

import json
import os
import platform
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from cluster.inline import InlinePool
from cluster.run import run_sweep
from farm.cost import cell_seconds, group_seconds
from farm.keys import cell_key
from farm.plan import LoadGroup, group_by_load
from farm.present.dashboard.eta import pace, remaining_s
from farm.present.dashboard.grid import Box, grids
from farm.present.dashboard.live import Driver, Now, fold
from farm.present.dashboard.log import read_log
from farm.present.dashboard.processes import Launch, is_alive, launched, process_alive, remember
from farm.present.dashboard.reading import RunReader
from farm.present.dashboard.watch import FIGURES, state_of, watch_page
from farm.present.words import LANGUAGES
from farm.reduce import cell_rows
from farm.store import RunFolder
from tests.unit import record_builder as build
from tests.unit import rich_records as rich
from tests.unit.sweeps import cells, sweep

START = datetime(2026, 1, 31, 12, tzinfo=UTC)


def line(second: float, what: str, **more: object) -> str:
    return json.dumps({"at": (START + timedelta(seconds=second)).isoformat(), "what": what, **more}) + "\n"


def begun(capacity: int = 2) -> str:
    driver = line(0, "driver_started", pid=1, host="h", capacity=capacity, pool="two GPUs")
    first = line(1, "group_started", job=1, load="aaa", cells=2) + line(2, "group_started", job=2, load="bbb", cells=2)
    return driver + first + line(3, "loading", job=1, pid=7, host="h", gpus="3")


def piece(first: int, text: str, *gaps_s: float) -> str:
    return line(9, "shown", job=1, key="k", first_token=first, text=text, gaps_s=gaps_s, weights_bytes=9, kv_bytes=5)


@pytest.fixture
def done(tmp_path: Path) -> Path:
    run_sweep(sweep(models=["fake:steady", "fake:raise?context=16"]), RunFolder(tmp_path / "run"), InlinePool("cpu"))
    return tmp_path / "run"


def test_workers_are_told_with_their_device_and_phase() -> None:
    now = fold(read_log(begun() + line(5, "loaded", job=1, load_s=2.0)))
    assert [(job.load, job.phase, job.gpus) for job in now.jobs] == [
        ("aaa", "checking", "3"),
        ("bbb", "starting", None),
    ]
    assert now.driver is not None
    assert (now.driver.capacity, now.driver.pool, now.driver.ended_at) == (2, "two GPUs", None)


def test_a_recorded_cell_leaves_its_worker_free() -> None:
    told = begun() + line(6, "running", job=1, key="k", done=3, total=9)
    (job, _) = fold(read_log(told)).jobs
    assert (job.key, job.done, job.total) == ("k", 3, 9)
    (job, _) = fold(read_log(told + line(7, "recorded", key="k", status="ok"))).jobs
    assert (job.key, job.total) == (None, 0)


def test_what_a_killed_driver_left_open_ends_when_the_next_begins() -> None:
    again = line(60, "driver_started", pid=2, host="h", capacity=1)
    now = fold(read_log(begun() + again + line(61, "group_started", job=1, load="ccc")))
    assert [job.load for job in now.jobs] == ["ccc"]
    assert now.driver is not None
    assert now.driver.pid == 2


def test_a_stream_grows_and_begins_anew_with_another_attempt() -> None:
    told = begun() + piece(0, "Once", 0.5) + piece(1, " upon", 0.1, 0.1, 0.2)
    stream = fold(read_log(told)).stream_of("k")
    assert stream is not None
    assert (stream.text, stream.ttft_s, round(stream.elapsed_s, 9)) == ("Once upon", 0.5, 0.9)
    assert stream.decode_tok_s == pytest.approx(3 / 0.4)
    again = fold(read_log(told + piece(0, "Again", 0.7))).stream_of("k")
    assert again is not None
    assert (again.text, again.gaps_s, again.decode_tok_s) == ("Again", (0.7,), None)


@pytest.mark.parametrize("torn", ['{"at": "2026-01', '{"what": "new kind", "at": "2026-01-31T12:00:00"}', "[]", "\x00"])
def test_a_torn_or_unknown_line_is_left_out(torn: str) -> None:
    assert read_log(begun() + torn + "\n" + begun()) == read_log(begun() + begun())


def test_the_log_of_a_real_run_is_understood_line_by_line(done: Path) -> None:
    text = (done / "events.jsonl").read_text()
    assert len(read_log(text)) == len(text.splitlines())


def test_a_look_sees_what_the_store_holds(done: Path) -> None:
    snapshot = RunReader(done).look()
    assert tuple(snapshot.records.values()) == RunFolder(done).results()
    assert snapshot.counts == {"ok": 2, "error": 2}
    assert (state_of(snapshot), snapshot.open_keys, snapshot.now.jobs) == ("done", (), ())


def test_looking_writes_nothing_not_even_aside(done: Path) -> None:
    damaged = next((done / "records").glob("*/1.json"))
    damaged.write_text("{")
    before = sorted(done.rglob("*"))
    snapshot = RunReader(done).look()
    assert damaged.parent.name in snapshot.open_keys
    assert state_of(snapshot) == "stopped"
    assert sorted(done.rglob("*")) == before


def test_later_looks_read_on_where_the_last_one_ended(done: Path) -> None:
    reader = RunReader(done)
    first = reader.look()
    with (done / "events.jsonl").open("a") as log:
        log.write(begun() + '{"at": "2026')
        log.flush()
        assert len(reader.look().now.jobs) == len(first.now.jobs) + 2
        log.write('-01-31T12:00:09+00:00", "what": "group_ended", "job": 2}\n')
    assert [job.number for job in reader.look().now.jobs] == [1]
    (done / "events.jsonl").write_text(begun(capacity=5))  # another run in the same place
    now = reader.look().now
    assert now.driver is not None
    assert now.driver.capacity == 5


def test_a_driver_is_alive_while_its_process_is() -> None:
    here, begun_at = platform.node(), datetime.now(UTC)
    own = Driver(os.getpid(), here, 1, "", begun_at)
    assert is_alive(own, None)
    assert not is_alive(Driver(2**22 + 1, here, 1, "", begun_at), None)
    assert not is_alive(
        Driver(os.getpid(), here, 1, "", begun_at - timedelta(days=400)), None
    )  # the pid was given again
    assert not is_alive(Driver(os.getpid(), here, 1, "", begun_at, ended_at=begun_at), None)


def test_a_driver_elsewhere_is_alive_while_it_is_heard() -> None:
    far = Driver(1, "another-host", 1, "", START)
    assert is_alive(far, datetime.now(UTC))
    assert not is_alive(far, datetime.now(UTC) - timedelta(hours=1))


def test_a_started_process_is_found_again(tmp_path: Path) -> None:
    launch = remember(tmp_path, os.getpid())
    assert launched(tmp_path) == launch
    assert process_alive(launch)
    assert not process_alive(Launch(launch.pid, launch.created_s - 1000))
    (tmp_path / "launch.json").write_text('{"pid": "no')
    assert launched(tmp_path) is None


def group(context: int) -> LoadGroup:
    return group_by_load([build.speed_cell(build.load(), context, cache) for cache in ("on", "off")])[0]


def test_the_time_left_is_the_guess_at_the_pace_of_what_was_measured() -> None:
    spent_s = 60.0  # every record of the builder takes one minute
    measured = [build.speed(cell) for cell in group(128).cells]
    guessed = group_seconds(build.load(), ()) + sum(map(cell_seconds, group(128).cells))
    assert pace(measured) == pytest.approx(2 * spent_s / guessed)
    todo = group(2048)
    whole = group_seconds(build.load(), ()) + sum(map(cell_seconds, todo.cells))
    assert remaining_s([todo], [], measured, 1) == pytest.approx(2 * spent_s / guessed * whole)
    loaded = remaining_s([todo], [todo.load], measured, 1)
    assert loaded == pytest.approx(2 * spent_s / guessed * (whole - group_seconds(build.load(), ())))


def test_workers_share_the_work_but_not_one_group() -> None:
    measured = [build.speed(cell) for cell in group(128).cells]
    one, other = group(2048), group(1024)
    alone = remaining_s([one], [], measured, 1)
    assert remaining_s([one, other], [], measured, 2) == alone  # the longer of the two
    assert remaining_s([one, other], [], measured, 1) > alone  # type: ignore[operator]
    assert remaining_s([one], [], measured, 8) == alone


def test_nobody_knows_before_a_cell_was_measured() -> None:
    assert remaining_s([group(128)], [], [], 1) is None
    assert remaining_s([], [], [], 1) == 0.0


def test_the_grid_holds_every_cell_once_with_its_figure() -> None:
    records = build.with_failures(build.sweep())
    by_key = {record.key: record.cell for record in records}
    rows = cell_rows(records)
    (grid,) = grids(by_key, tuple(by_key), rows, ())
    assert grid.contexts == (128, 256, 512, 1024, 2048)
    assert [(one.quantization, one.cache_mode) for one in grid.lines[:3]] == [
        ("fp16", "on"),
        ("fp16", "off"),
        ("bf16", "on"),
    ]
    row = rich.find(rows, "int8", 1024, "on")
    line = next(one for one in grid.lines if (one.quantization, one.cache_mode) == ("int8", "on"))
    assert row.decode_tok_s is not None
    assert line.boxes[3] == Box("ok", f"{row.decode_tok_s.median:.1f}", row.trust.verdict or "")
    assert line.boxes[-1] is not None
    assert line.boxes[-1].text == "6.18"  # exp(1.8210)
    failed = next(one for one in grid.lines if (one.quantization, one.cache_mode) == ("int8", "off")).boxes[4]
    assert failed is not None
    assert (failed.state, failed.text) == ("finding", "oom")
    assert "out of memory" in failed.title


def test_open_and_running_cells_have_no_figure() -> None:
    wanted = {cell_key(cell): cell for cell in cells()}
    (grid,) = grids(wanted, tuple(wanted), [], {next(iter(wanted))})
    assert [box for one in grid.lines for box in one.boxes] == [Box("running"), Box("open")]


def test_an_empty_log_is_nothing() -> None:
    assert fold([]) == Now()


def test_a_folder_made_anew_is_read_anew(done: Path) -> None:
    reader = RunReader(done)
    first = reader.look()
    moved = done.parent / "moved"
    done.rename(moved)
    assert reader.look().records == {}
    run_sweep(sweep(models=["fake:steady", "fake:oom"]), RunFolder(done), InlinePool("cpu"))
    again = reader.look()
    assert again.counts == {"ok": 2, "oom": 2}
    assert again.version != first.version


@pytest.mark.parametrize("language", sorted(LANGUAGES))
def test_every_figure_has_a_name_on_the_page(language: str) -> None:
    page = str(watch_page(language))
    assert all(LANGUAGES[language][f"figure_{name}"] in page for name in FIGURES)
