"""A run in an object store: one PUT a record, nothing written over, one driver, and the same results as in a folder."""

import json
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from farm.errors import StoreError
from farm.keys import cell_key
from farm.records import Status
from farm.storage import is_uri, open_storage
from farm.storage.holder import Holder
from farm.storage.lease import FILE, VALID_S, Lease
from farm.storage.local import LocalFolder
from farm.storage.objects import FLUSH_S, ObjectStore
from farm.store import Manifest, RunFolder, record_file
from tests.unit.records import record
from tests.unit.sweeps import cells, sweep


class Clock:
    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def uri() -> str:
    return f"memory://{secrets.token_hex(4)}/run"


def test_what_is_a_path_and_what_is_a_uri(tmp_path: Path) -> None:
    assert is_uri("s3://bucket/run")
    assert not is_uri("runs/demo")
    assert not is_uri(f"file://{tmp_path}")
    opened = open_storage(f"file://{tmp_path}/run")
    assert isinstance(opened, LocalFolder)
    assert opened.path == tmp_path / "run"


def test_results_are_the_same_as_in_a_folder(uri: str, tmp_path: Path) -> None:
    first, second = cells()
    for folder in (RunFolder(uri), RunFolder(tmp_path)):
        folder.pin(Manifest(sweep(), "cpu", (cell_key(second), cell_key(first))))
        for one in (record(first), record(second, Status.CRASH), record(second, attempt=2)):
            folder.write(one)
    assert RunFolder(uri).results() == RunFolder(tmp_path).results()
    assert RunFolder(uri).next_attempt(cell_key(second)) == 3
    assert RunFolder(uri).manifest() == RunFolder(tmp_path).manifest()


def test_a_uri_without_a_run_says_so(uri: str) -> None:
    with pytest.raises(StoreError, match=rf"{uri}: no run here"):
        RunFolder(uri).manifest()
    assert RunFolder(uri).read() == ()


def test_a_record_is_never_written_over(uri: str) -> None:
    one = record(cells()[0])
    RunFolder(uri).write(one)
    RunFolder(uri).write(one)  # the very same bytes: a PUT whose answer was lost and that was sent again
    with pytest.raises(StoreError, match="another run is writing here"):
        RunFolder(uri).write(record(cells()[0], Status.CRASH))
    assert RunFolder(uri).read() == (one,)


def test_a_damaged_object_is_set_aside(uri: str) -> None:
    one, store = record(cells()[0]), ObjectStore(uri)
    store.replace(record_file(one.key, 1), b'{"key": ')
    assert RunFolder(uri).read() == ()
    assert store.files("records") == [record_file(one.key, 1) + ".damaged"]
    assert RunFolder(uri).next_attempt(one.key) == 2


def test_the_event_log_is_one_object_a_batch_and_one_text_to_readers(uri: str) -> None:
    clock = Clock()
    store = ObjectStore(uri, clock)
    with store.locked():
        store.log("a\n")
        store.log("b\n")
        assert store.files("events") == []
        clock.now_s += FLUSH_S
        store.log("c\n")
        assert len(store.files("events")) == 1
        store.log("d\n")
    assert len(store.files("events")) == 2
    assert ObjectStore(uri).logged() == "a\nb\nc\nd\n"


def test_a_second_driver_is_refused_and_told_who_is_there(uri: str) -> None:
    with (
        RunFolder(uri).locked(),
        pytest.raises(StoreError, match=r"another run is writing here \(pid \d+ on .*another --out"),
        RunFolder(uri).locked(),
    ):
        pass
    with RunFolder(uri).locked():  # the first one let go
        pass


def test_a_dead_drivers_lease_ends_and_the_dead_one_may_not_come_back(uri: str) -> None:
    clock, store = Clock(), ObjectStore(uri)
    dead = Lease(store, "dead", clock).__enter__()
    clock.now_s += VALID_S - 1
    with pytest.raises(StoreError, match="another run is writing here"):
        Lease(store, "early", clock).__enter__()
    clock.now_s += 1
    with Lease(store, "heir", clock) as heir:
        dead.renew()
        with pytest.raises(StoreError, match="took over"):
            dead.check()
        dead.__exit__()
        heir.renew()
        heir.check()
        assert json.loads(store.read(FILE))["session"] == "heir"
    assert store.files() == []


class Hesitates(Lease):
    """Reads who holds the place, and then lets something happen before it acts."""

    def __init__(self, *args: Any, meanwhile: Callable[[], object]) -> None:
        super().__init__(*args)
        self.meanwhile: list[Callable[[], object]] = [meanwhile]

    def _holder(self) -> Holder:
        found = super()._holder()
        if self.meanwhile:
            self.meanwhile.pop()()
        return found


def test_of_two_heirs_of_a_dead_driver_one_gets_in(uri: str) -> None:
    """The slower one saw the stale lease as well: what it would remove now is the lease of the first."""
    clock, store = Clock(), ObjectStore(uri)
    Lease(store, "dead", clock).__enter__()
    clock.now_s += VALID_S
    first = Lease(store, "first", clock)
    with pytest.raises(StoreError, match="another run has just started here"):
        Hesitates(store, "second", clock, meanwhile=first.__enter__).__enter__()
    first.renew()
    first.check()
    first.__exit__()
    assert store.files() == []


def test_an_heir_that_dies_while_it_takes_over_is_not_waited_for_for_ever(
    uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, store = Clock(), ObjectStore(uri)
    Lease(store, "dead", clock).__enter__()
    clock.now_s += VALID_S
    with monkeypatch.context() as patched:
        patched.setattr(store, "remove", lambda file: exit_by_kill())
        with pytest.raises(KeyboardInterrupt):
            Lease(store, "killed", clock).__enter__()
    with pytest.raises(StoreError, match="another run has just started here"):
        Lease(store, "too early", clock).__enter__()
    clock.now_s += VALID_S
    with Lease(store, "heir", clock) as heir:
        heir.check()


def exit_by_kill() -> None:
    raise KeyboardInterrupt


def test_a_lease_that_is_renewed_stays(uri: str) -> None:
    clock, store = Clock(), ObjectStore(uri)
    with Lease(store, "alive", clock) as lease:
        for _ in range(5):
            clock.now_s += VALID_S - 1
            lease.renew()
        with pytest.raises(StoreError, match="another run is writing here"):
            Lease(store, "other", clock).__enter__()


def test_what_is_published_lands_beside_the_records(uri: str) -> None:
    folder = RunFolder(uri)
    folder.log_event(at="now", what="recorded")
    with folder.publishing() as out:
        (out / "metrics").mkdir()
        (out / "metrics" / "final_report.json").write_text("{}")
    assert folder.storage.read("metrics/final_report.json") == b"{}"
    assert [file for file in ObjectStore(uri).files() if "events" not in file] == ["metrics/final_report.json"]
    assert "events.jsonl" not in ObjectStore(uri).files()


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "a/../../x", "", "a\\b"])
def test_no_name_leaves_the_place(name: str, uri: str, tmp_path: Path) -> None:
    for storage in (ObjectStore(uri), LocalFolder(tmp_path / "run")):
        for use in (storage.read, lambda name: storage.keep(name, b"x"), storage.set_aside):  # noqa: B023
            with pytest.raises(StoreError, match="no name inside a run folder"):
                use(name)


@pytest.mark.parametrize("key", ["../../x", "a" * 63, "A" * 64, ""])
def test_a_key_that_is_no_digest_names_no_file(key: str) -> None:
    with pytest.raises(StoreError, match="no cell key"):
        record_file(key, 1)


@pytest.mark.parametrize(
    ("place", "sentence"),
    [
        ("s3://KEY:SECRET@bucket/run", r"^s3://\.\.\.: no user, password"),
        ("ftp://me:hunter2@host/run", r"^ftp://\.\.\.: no user, password"),
        ("simplecache::s3://bucket/run", r"no user, password or chain"),
        ("nosuch://bucket/run", r"nosuch://bucket/run: cannot be used .*use a path"),
    ],
)
def test_a_uri_that_cannot_serve_is_one_sentence(place: str, sentence: str) -> None:
    with pytest.raises(StoreError, match=sentence) as caught:
        ObjectStore(place)
    assert "SECRET" not in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_a_missing_client_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(StoreError, match=r"gs:// needs the package gcsfs: pip install -r requirements-stores.txt"):
        RunFolder("gs://bucket/run")


def test_a_stores_own_error_is_one_sentence(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    store = ObjectStore(uri)

    def refused(*_: object, **__: object) -> None:
        raise RuntimeError("NoCredentialsError:\n Unable to locate credentials")

    monkeypatch.setattr(store._fs, "pipe_file", refused)
    with pytest.raises(StoreError, match=r"answered RuntimeError: .*Unable to locate.*farm resume"):
        store.keep("run.json", b"x")


def test_a_uri_without_a_bucket_is_refused() -> None:
    with pytest.raises(StoreError, match=r"^s3://: no bucket is named"):
        ObjectStore("s3://")
