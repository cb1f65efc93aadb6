"""The cache under the conditions it exists for: real processes that race, and real SIGKILLs at every stage."""

import multiprocessing
import os
import signal
import stat
import time
from pathlib import Path

import pytest

from jobs.models import cache
from jobs.models.cache import MARKER, build_once, cache_root, is_complete

SPAWN = multiprocessing.get_context("spawn")


def write_model(folder: Path) -> None:
    (folder / "sub").mkdir()
    (folder / "weights").write_bytes(b"w" * 1000)
    (folder / "sub" / "config").write_text("{}", encoding="utf-8")


def assert_only_the_result(folder: Path) -> None:
    """The result is complete and nothing but it and the lock lies beside it."""
    assert is_complete(folder)
    assert (folder / "weights").read_bytes() == b"w" * 1000
    assert {path.name for path in folder.iterdir()} == {"weights", "sub", MARKER}
    assert {path.name for path in folder.parent.iterdir()} == {folder.name, f".{folder.name}.lock"}


def racer(folder: Path, barrier) -> None:
    def build(temporary: Path) -> None:
        with (folder.parent.parent / "builders").open("a", encoding="utf-8") as log:
            log.write(f"{os.getpid()}\n")
        time.sleep(0.2)  # long enough for all the others to arrive
        write_model(temporary)

    barrier.wait(30)
    build_once(folder, build)
    assert (folder / "weights").stat().st_size == 1000


def test_four_processes_race_and_one_builds(tmp_path):
    folder = tmp_path / "cache" / "model"
    barrier = SPAWN.Barrier(4)
    racers = [SPAWN.Process(target=racer, args=(folder, barrier)) for _ in range(4)]
    for process in racers:
        process.start()
    for process in racers:
        process.join(60)

    assert [process.exitcode for process in racers] == [0, 0, 0, 0]
    assert len((tmp_path / "builders").read_text(encoding="utf-8").splitlines()) == 1
    assert_only_the_result(folder)


def die(*_: object, **__: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def builder_that_dies(folder: Path, stage: str) -> None:
    def build(temporary: Path) -> None:
        (temporary / "weights").write_bytes(b"w" * 500)
        if stage == "build":
            die()
        (temporary / "left_by_the_dead").touch()

    if stage == "seal":
        cache._seal = die
    if stage == "sync":
        cache._sync = die
    if stage == "rename":
        Path.rename = die  # type: ignore[method-assign,assignment]
    build_once(folder, build)


@pytest.mark.parametrize("stage", ["build", "seal", "sync", "rename"])
def test_a_kill_at_any_stage_is_repaired_by_the_next_call(tmp_path, stage):
    folder = tmp_path / "model"
    process = SPAWN.Process(target=builder_that_dies, args=(folder, stage))
    process.start()
    process.join(60)

    assert process.exitcode == -signal.SIGKILL
    assert not folder.exists()
    assert any(path.name.startswith(".model.building-") for path in tmp_path.iterdir())
    build_once(folder, write_model)
    assert_only_the_result(folder)


@pytest.mark.parametrize("error", [RuntimeError("no luck"), KeyboardInterrupt()])
def test_a_builder_that_raises_leaves_nothing(tmp_path, error):
    def build(temporary: Path) -> None:
        write_model(temporary)
        raise error

    with pytest.raises(type(error)):
        build_once(tmp_path / "model", build)
    assert [path.name for path in tmp_path.iterdir()] == [".model.lock"]


def test_a_complete_folder_is_not_built_again_and_needs_no_lock(tmp_path):
    folder = build_once(tmp_path / "model", write_model)
    (tmp_path / ".model.lock").unlink()

    def never(temporary: Path) -> None:
        raise AssertionError("built twice")

    assert build_once(folder, never) == folder
    assert not (tmp_path / ".model.lock").exists()


def remove_marker(folder: Path) -> None:
    (folder / MARKER).unlink()


def damage_marker(folder: Path) -> None:
    (folder / MARKER).write_text('{"weights"', encoding="utf-8")


def truncate_file(folder: Path) -> None:
    (folder / "weights").write_bytes(b"w")


def remove_file(folder: Path) -> None:
    (folder / "sub" / "config").unlink()


@pytest.mark.parametrize("damage", [remove_marker, damage_marker, truncate_file, remove_file])
def test_a_damaged_folder_is_built_again(tmp_path, damage):
    folder = build_once(tmp_path / "model", write_model)
    damage(folder)
    assert not is_complete(folder)
    build_once(folder, write_model)
    assert_only_the_result(folder)


def test_neighbours_with_a_similar_name_are_left_alone(tmp_path):
    other = build_once(tmp_path / "model-2", write_model)
    (tmp_path / ".model-2.building-1").mkdir()
    build_once(tmp_path / "model", write_model)
    assert is_complete(other)
    assert (tmp_path / ".model-2.building-1").is_dir()


def test_files_written_as_private_become_as_readable_as_any_new_file(tmp_path):
    def build(temporary: Path) -> None:
        (temporary / "private").touch(mode=0o600)

    folder = build_once(tmp_path / "model", build)
    (tmp_path / "any").touch()
    assert stat.S_IMODE((folder / "private").stat().st_mode) == stat.S_IMODE((tmp_path / "any").stat().st_mode)


def test_cache_root_follows_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("TURBO_CACHE", str(tmp_path))
    assert cache_root() == tmp_path
    monkeypatch.delenv("TURBO_CACHE")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_root() == tmp_path / ".cache" / "turbo-inferencia"
