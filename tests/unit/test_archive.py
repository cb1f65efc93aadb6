"""A run in one file: what went in comes out, the same bytes every time, and nothing is ever written into it."""

import tarfile
from pathlib import Path

import pytest

from farm.errors import StoreError
from farm.keys import cell_key
from farm.storage import open_storage
from farm.storage.archive import Archive, pack
from farm.store import Manifest, RunFolder
from tests.unit.records import record
from tests.unit.sweeps import cells, sweep

FIRST, SECOND = cells()


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    folder = RunFolder(tmp_path / "run")
    with folder.locked():
        folder.pin(Manifest(sweep(), "cpu", (cell_key(FIRST), cell_key(SECOND))))
        for one in (record(FIRST), record(SECOND), record(SECOND, attempt=2)):
            folder.write(one)
        folder.log_event(at="2026-01-31T12:00:00.000+00:00", what="group_started", job=1)
    return folder


def test_a_packed_run_reads_like_its_folder(run: RunFolder, tmp_path: Path) -> None:
    (tmp_path / "run.tar.gz").write_bytes(pack(run.storage))
    packed = RunFolder(tmp_path / "run.tar.gz")
    assert packed.results() == run.results()
    assert packed.read() == run.read()
    assert packed.manifest() == run.manifest()
    assert packed.storage.logged() == run.storage.logged() != ""


def test_the_same_run_gives_the_same_bytes_also_from_an_archive(run: RunFolder, tmp_path: Path) -> None:
    first = pack(run.storage)
    (tmp_path / "run.tgz").write_bytes(first)
    assert pack(run.storage) == pack(open_storage(tmp_path / "run.tgz")) == first


def test_what_tar_makes_is_read(run: RunFolder, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "mine.tar.gz", "w:gz") as tar:
        tar.add(run.name, arcname=".")
    assert RunFolder(tmp_path / "mine.tar.gz").results() == run.results()


def test_an_archive_is_only_read_and_says_what_to_do(run: RunFolder, tmp_path: Path) -> None:
    (tmp_path / "run.tar.gz").write_bytes(pack(run.storage))
    packed = RunFolder(tmp_path / "run.tar.gz")
    for write in (packed.locked, packed.publishing, lambda: packed.write(record(FIRST)), lambda: packed.log_event(a=1)):
        with pytest.raises(StoreError, match=r"only read: unpack it .* --into DIR"):
            write()


def test_a_damaged_archive_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "run.tar.gz").write_bytes(b"no archive")
    with pytest.raises(StoreError, match=r"run.tar.gz cannot be read as an archive"):
        RunFolder(tmp_path / "run.tar.gz")


def test_only_a_file_of_that_name_is_an_archive(tmp_path: Path) -> None:
    assert not isinstance(open_storage(tmp_path / "absent.tar.gz"), Archive)
