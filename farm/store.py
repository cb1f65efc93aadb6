"""A run's records and manifest, written so that no kill at any moment loses or doubles a finished point.

    DIR/run.json                       which sweep, which device: what `farm resume` reads
    DIR/records/<key>/<attempt>.json   one file an attempt, written whole or not at all
    DIR/canary/{alone,busy}/           a cell measured twice, to see whether neighbours disturb (farm.interference)
    DIR/events.jsonl                   what happened when, for the live view and the Gantt figure
    DIR/lock                           held by the one driver; the kernel frees it when that process dies

Only the driver writes. DIR may be a URI (`s3://bucket/run`): `farm.storage` tells what differs there. A record file
that is truncated or damaged is set aside as `<attempt>.json.damaged`: it counts as not measured and nothing is deleted.
"""

import json
import re
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from operator import attrgetter
from pathlib import Path

from pydantic import ValidationError

from farm.errors import StoreError
from farm.interference import Interference, interference, marked
from farm.keys import SCHEMA_VERSION
from farm.plan import RECORDS, latest_by_key
from farm.records import Record, from_json, to_json
from farm.redact import redacted
from farm.steady import sorted_again
from farm.storage import Storage, open_storage
from farm.sweep import Sweep, parse_sweep

CANARY = ("canary/alone", "canary/busy")
_KEY = re.compile(r"[0-9a-f]{64}")
_RECORD = re.compile(r"(?:records|canary/\w+)/([0-9a-f]{64})/(\d+)\.json")


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
    """One run's files, at a path or a URI; nothing is touched until a method writes."""

    place: str | Path
    storage: Storage = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "storage", open_storage(self.place))

    @property
    def name(self) -> str:
        """The absolute path or the URI: what `farm resume` takes."""
        return self.storage.name

    def locked(self) -> AbstractContextManager[None]:
        """Be the only driver of this folder. Raises StoreError when another one is at work."""
        return self.storage.locked()

    def publishing(self) -> AbstractContextManager[Path]:
        """A local folder to write tables, figures and reports into; they end up beside the records."""
        return self.storage.publishing()

    def pin(self, manifest: Manifest) -> None:
        """Say which sweep this folder belongs to. An edited sweep may follow: the keys tell its cells apart."""
        data = {
            "schema": SCHEMA_VERSION,
            "device": manifest.device,
            "sweep": manifest.sweep.to_yaml(),
            "keys": manifest.keys,
        }
        self.storage.replace("run.json", (json.dumps(data, indent=1) + "\n").encode())

    def manifest(self) -> Manifest:
        """Raises StoreError when this is no run folder."""
        file = f"{self.name}/run.json"
        try:
            data = json.loads(self.storage.read("run.json"))
            return Manifest(parse_sweep(data["sweep"], file), data["device"], tuple(data["keys"]))
        except (FileNotFoundError, NotADirectoryError):
            raise StoreError(f"{self.name}: no run here (run.json is missing); start one with `farm run`") from None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise StoreError(f"{file}: damaged ({error}); `farm run SWEEP --out {self.name}` mends it") from None

    def write(self, record: Record, shelf: str = RECORDS) -> None:
        """Keep a record for good: after this returns, a power cut does not lose it. Raises StoreError."""
        file = record_file(record.key, record.attempt, shelf)
        self.storage.keep(file, redacted(to_json(record).decode()).encode())

    def results(self) -> tuple[Record, ...]:
        """The record that counts for each cell of the sweep, in the sweep's order; cells not yet tried are absent."""
        latest, manifest = latest_by_key(self.judged()), self.manifest()
        return tuple(latest[key] for key in manifest.keys if key in latest)

    def judged(self) -> tuple[Record, ...]:
        """Every record, with what the canary says of it: a row that it disturbed is one to measure again."""
        return marked(self.read(), self.interference())

    def interference(self) -> Interference:
        """What the canary's newest records say."""
        read = [self.read(shelf) for shelf in CANARY]
        alone, busy = (max(records, key=attrgetter("started_at"), default=None) for records in read)
        return interference(alone, busy, asked=self.manifest().sweep.canary)

    def read(self, shelf: str = RECORDS) -> tuple[Record, ...]:
        """Every record, ordered by key and attempt; damaged files are set aside and left out."""
        files = [file for file in self.storage.files(shelf) if _RECORD.fullmatch(file)]
        records = [self._whole(file, data) for file, data in self.storage.read_all(files)]
        whole = [record for record in records if record is not None]
        return tuple(sorted(whole, key=lambda record: (record.key, record.attempt)))

    def _whole(self, file: str, data: bytes) -> Record | None:
        try:
            record = from_json(data)
        except ValidationError:
            self.storage.set_aside(file)
            return None
        is_own = record.schema == SCHEMA_VERSION and record.key == file.split("/")[-2]
        return sorted_again(record) if is_own else None

    def next_attempt(self, key: str, shelf: str = RECORDS) -> int:
        """One more than the highest attempt there, damaged ones included, so that no file is ever overwritten."""
        names = [file.rsplit("/", 1)[1].split(".")[0] for file in self.storage.files(f"{shelf}/{key}")]
        return max((int(name) for name in names if name.isdigit()), default=0) + 1

    def log_event(self, **event: object) -> None:
        """Add one line to the event log."""
        self.storage.log(redacted(json.dumps(event, sort_keys=True, default=str)) + "\n")


def record_file(key: str, attempt: int, shelf: str = RECORDS) -> str:
    """Where a record lies. A key that is no sha256 could name another place: StoreError."""
    if not _KEY.fullmatch(key):
        raise StoreError(f"{key[:80]!r} is no cell key; the record that says so was not made by this farm")
    return f"{shelf}/{key}/{attempt}.json"
