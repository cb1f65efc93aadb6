"""The run folder: records on disk, written so that no kill at any moment loses or doubles a finished point.

    DIR/run.json                       which sweep, which device: what `farm resume` reads
    DIR/records/<key>/<attempt>.json   one file an attempt, written aside and then renamed
    DIR/events.jsonl                   what happened when, for the live view and the Gantt figure
    DIR/lock                           held by the one driver; the kernel frees it when that process dies

Only the driver writes. A record file that is truncated or damaged is set aside as `<attempt>.json.damaged`: it counts
as not measured and nothing is deleted.
"""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout
from pydantic import ValidationError

from farm.errors import StoreError
from farm.keys import SCHEMA_VERSION
from farm.plan import latest_by_key
from farm.records import Record, from_json, to_json
from farm.sweep import Sweep, parse_sweep


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a run folder is about: its sweep, what `device: auto` was resolved to, and the keys of its cells.

    Records of other keys (an earlier version of the sweep) stay on disk but are no part of the results.
    """

    sweep: Sweep
    device: str
    keys: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RunFolder:
    """One run's files. Create with `RunFolder(path)`; nothing is touched until a method writes."""

    path: Path

    @property
    def records_path(self) -> Path:
        return self.path / "records"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Be the only driver of this folder. Raises StoreError when another one is at work."""
        self._make()
        lock = FileLock(self.path / "lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise StoreError(
                f"{self.path}: another run is writing here; wait for it, or give this one another --out"
            ) from None
        try:
            yield
        finally:
            lock.release()

    def _make(self) -> None:
        try:
            self.records_path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(f"{self.path}: cannot be created ({error.strerror}); choose another --out") from None

    def pin(self, manifest: Manifest) -> None:
        """Say which sweep this folder belongs to. An edited sweep may follow: the keys tell its cells apart."""
        data = {
            "schema": SCHEMA_VERSION,
            "device": manifest.device,
            "sweep": manifest.sweep.to_yaml(),
            "keys": manifest.keys,
        }
        _write_atomically(self.path / "run.json", (json.dumps(data, indent=1) + "\n").encode())

    def manifest(self) -> Manifest:
        """Raises StoreError when this is no run folder."""
        file = self.path / "run.json"
        try:
            data = json.loads(file.read_text())
            return Manifest(parse_sweep(data["sweep"], str(file)), data["device"], tuple(data["keys"]))
        except FileNotFoundError:
            raise StoreError(f"{self.path}: no run here (run.json is missing); start one with `farm run`") from None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise StoreError(f"{file}: damaged ({error}); `farm run SWEEP --out {self.path}` mends it") from None

    def write(self, record: Record) -> Path:
        """Keep a record for good: after this returns, a power cut does not lose it. Raises StoreError."""
        file = self.records_path / record.key / f"{record.attempt}.json"
        try:
            file.parent.mkdir(exist_ok=True)
            _write_atomically(file, to_json(record))
        except OSError as error:
            raise StoreError(f"{file}: cannot be written ({error.strerror}); free space, then `farm resume`") from None
        return file

    def results(self) -> tuple[Record, ...]:
        """The record that counts for each cell of the sweep, in the sweep's order; cells not yet tried are absent."""
        latest = latest_by_key(self.read())
        return tuple(latest[key] for key in self.manifest().keys if key in latest)

    def read(self) -> tuple[Record, ...]:
        """Every record, ordered by key and attempt; damaged files are set aside and left out."""
        records = [_read_or_set_aside(file) for file in sorted(self.records_path.glob("*/*.json"))]
        whole = [record for record in records if record is not None]
        return tuple(sorted(whole, key=lambda record: (record.key, record.attempt)))

    def next_attempt(self, key: str) -> int:
        """One more than the highest attempt on disk, damaged ones included, so that no file is ever overwritten."""
        taken = [int(file.name.split(".")[0]) for file in self.records_path.glob(f"{key}/[0-9]*.json*")]
        return max(taken, default=0) + 1

    def log_event(self, **event: object) -> None:
        """Append one line to the event log. One write call a line: readers never see half of it."""
        line = json.dumps(event, sort_keys=True, default=str) + "\n"
        with (self.path / "events.jsonl").open("a", encoding="utf-8") as log:
            log.write(line)


def _write_atomically(file: Path, data: bytes) -> None:
    aside = file.with_name(f".{file.name}.{os.getpid()}.tmp")
    try:
        with aside.open("wb") as out:
            out.write(data)
            out.flush()
            os.fsync(out.fileno())
        aside.replace(file)
    finally:
        aside.unlink(missing_ok=True)
    _sync_folder(file.parent)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _read_or_set_aside(file: Path) -> Record | None:
    try:
        record = from_json(file.read_bytes())
    except ValidationError:
        file.replace(file.with_name(file.name + ".damaged"))
        return None
    return record if record.schema == SCHEMA_VERSION and record.key == file.parent.name else None
