"""What lies in the run folder is not what the last run left: damaged records, an edited sweep. Whole runs, inline."""

from pathlib import Path

import pytest

from cluster.inline import InlinePool
from cluster.run import RunSummary, run_sweep
from farm.records import Record
from farm.store import RunFolder, record_file
from farm.sweep import Sweep
from tests.unit.sweeps import sweep


def run(path: Path, what: Sweep) -> RunSummary:
    return run_sweep(what, RunFolder(path), InlinePool("cpu"))


def files(path: Path) -> dict[str, bytes]:
    return {file.relative_to(path).as_posix(): file.read_bytes() for file in path.glob("records/*/*")}


def shapes(records: tuple[Record, ...]) -> list[tuple[int, str, int]]:
    return [(r.cell.task.context_tokens, r.cell.task.cache_mode, r.attempt) for r in records]


@pytest.mark.parametrize(
    "damage", [b"", b"{", b"\x00" * 4096, b'{"schema": 1}'], ids=["empty", "cut", "zeros", "other"]
)
def test_a_damaged_record_is_measured_again_and_only_that_one(tmp_path: Path, damage: bytes) -> None:
    what = sweep(contexts=[16, 32])
    run(tmp_path, what)
    before = files(tmp_path)
    victim = record_file(RunFolder(tmp_path).results()[1].key, 1)
    (tmp_path / victim).write_bytes(damage)
    summary = run(tmp_path, what)
    assert (summary.measured, summary.kept, summary.statuses) == (1, 3, {"ok": 4})
    assert [r.attempt for r in RunFolder(tmp_path).results()] == [1, 2, 1, 1]
    after = files(tmp_path)
    assert after[victim + ".damaged"] == damage  # nothing is deleted
    untouched = before.keys() - {victim}
    assert {name: after[name] for name in untouched} == {name: before[name] for name in untouched}


def test_a_record_cut_in_the_middle_of_a_resume_costs_one_more_attempt_each_time(tmp_path: Path) -> None:
    what = sweep(cache_modes=["on"])
    for attempt in (1, 2, 3):
        assert run(tmp_path, what).measured == 1
        (record,) = RunFolder(tmp_path).results()
        assert record.attempt == attempt
        file = tmp_path / record_file(record.key, attempt)
        file.write_bytes(file.read_bytes()[:-30])


def test_an_edited_sweep_keeps_what_it_still_names_and_loses_nothing(tmp_path: Path) -> None:
    run(tmp_path, sweep(contexts=[16, 32]))
    before = files(tmp_path)
    summary = run(tmp_path, sweep(contexts=[32, 48]))
    assert (summary.measured, summary.kept) == (2, 2)
    results = RunFolder(tmp_path).results()
    assert shapes(results) == [(32, "on", 1), (32, "off", 1), (48, "on", 1), (48, "off", 1)]
    assert before.items() <= files(tmp_path).items()
    assert run(tmp_path, sweep(contexts=[16, 32, 48])).measured == 0  # back again: all of it is still there


def test_an_edit_that_changes_what_is_measured_measures_everything_again(tmp_path: Path) -> None:
    run(tmp_path, sweep())
    for change in ({"runs": 4}, {"seed": 7}, {"new_tokens": 5}):
        assert run(tmp_path, sweep(**change)).measured == 2
    for no_change in ({"limits": {"cell_timeout_s": 5}}, {"interleave": 1}, {"name": "renamed"}):
        assert run(tmp_path, sweep(**no_change)).kept == 2
