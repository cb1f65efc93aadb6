"""The run folder: nothing finished is lost, nothing damaged is believed, only one driver writes."""

import json
import multiprocessing
import os
import platform
import signal
from dataclasses import replace
from pathlib import Path

import pytest

from farm.errors import StoreError
from farm.keys import cell_key
from farm.records import Record, Status, from_json, to_json
from farm.store import Manifest, RunFolder, record_file
from tests.unit.records import record
from tests.unit.sweeps import cells, sweep


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    made = RunFolder(tmp_path / "run")
    with made.locked():
        pass
    return made


def write(folder: RunFolder, one: Record) -> Path:
    folder.write(one)
    return Path(folder.name, record_file(one.key, one.attempt))


def test_a_record_survives_the_round_trip() -> None:
    for status in (Status.OK, Status.TIMEOUT):
        one = record(cells()[0], status)
        assert from_json(to_json(one)) == one


def test_nan_is_never_written() -> None:
    one = record(cells()[0])
    trials = (replace(one.speed.trials[0], ttft_s=float("nan")),)
    with pytest.raises(ValueError, match="JSON compliant"):
        to_json(replace(one, speed=replace(one.speed, trials=trials)))


def test_what_is_written_is_read(folder: RunFolder) -> None:
    written = [record(cell) for cell in cells(contexts=[16, 32])]
    for one in written:
        folder.write(one)
    assert {r.key for r in folder.read()} == {r.key for r in written}
    assert not list(Path(folder.name).glob("**/*.tmp"))


def test_a_truncated_record_is_set_aside_and_never_overwritten(folder: RunFolder) -> None:
    one = record(cells()[0])
    file = write(folder, one)
    file.write_bytes(file.read_bytes()[:-40])
    assert folder.read() == ()
    assert folder.next_attempt(one.key) == 2
    assert file.with_name("1.json.damaged").exists()


def test_a_record_in_the_wrong_folder_does_not_count(folder: RunFolder) -> None:
    file = write(folder, record(cells()[0]))
    elsewhere = Path(folder.name, "records") / ("0" * 64)
    elsewhere.mkdir()
    file.rename(elsewhere / "1.json")
    assert folder.read() == ()


def test_results_are_the_newest_attempts_in_the_sweeps_order(folder: RunFolder) -> None:
    first, second = cells()
    folder.pin(Manifest(sweep(), "cpu", (cell_key(second), cell_key(first))))
    for one in (record(first), record(second, Status.CRASH), record(second, attempt=2)):
        folder.write(one)
    assert [(r.key, r.attempt) for r in folder.results()] == [(cell_key(second), 2), (cell_key(first), 1)]


def test_records_of_an_earlier_sweep_are_no_results(folder: RunFolder) -> None:
    first, second = cells()
    folder.pin(Manifest(sweep(), "cpu", (cell_key(first),)))
    folder.write(record(second))
    assert folder.results() == ()
    assert len(folder.read()) == 1


def test_the_manifest_survives_the_round_trip(folder: RunFolder) -> None:
    manifest = Manifest(sweep(contexts=[32]), "cuda", ("a", "b"))
    folder.pin(manifest)
    assert folder.manifest() == manifest


def test_a_folder_without_a_run_says_how_to_start_one(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"no run here.*farm run"):
        RunFolder(tmp_path).manifest()


@pytest.mark.parametrize("content", ["{", "{}", json.dumps({"sweep": "name: x", "device": "cpu", "keys": []})])
def test_a_damaged_manifest_is_one_sentence(folder: RunFolder, content: str) -> None:
    Path(folder.name, "run.json").write_text(content)
    with pytest.raises(Exception, match=r"run\.json") as caught:
        folder.manifest()
    assert "\n" not in str(caught.value)


def _hold(path: Path, ready: object) -> None:
    with RunFolder(path).locked():
        ready.set()
        signal.pause()


def test_a_second_driver_is_refused_and_a_dead_one_holds_nothing(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    ready = context.Event()
    holder = context.Process(target=_hold, args=(tmp_path, ready))
    holder.start()
    assert ready.wait(60)
    whom = rf"another run is writing here \(pid {holder.pid} on {platform.node()}\)"
    with pytest.raises(StoreError, match=whom), RunFolder(tmp_path).locked():
        pass
    os.kill(holder.pid, signal.SIGKILL)
    holder.join()
    with RunFolder(tmp_path).locked():
        pass


def test_a_full_disk_is_one_sentence(folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StoreError, match=r"No space left on device.*farm resume"):
        folder.write(record(cells()[0]))
    assert not list(Path(folder.name).glob("**/*.tmp"))


def test_records_are_plain_json(folder: RunFolder) -> None:
    one: Record = record(cells()[0])
    data = json.loads(write(folder, one).read_text())
    assert data["status"] == "ok"
    assert data["cell"]["task"]["context_tokens"] == 16
