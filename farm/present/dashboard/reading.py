"""A run folder as it is at this moment, read and never written: any number of pages may look at any time.

Why not `RunFolder.read()`: that sets damaged files aside, which is the driver's to do, and parses everything again at
every look. Here a record is parsed once, the log is read from where the last look ended, and all pages share that.

    reader = RunReader(Path("runs/demo"))
    reader.look().counts    # Counter({'ok': 17, 'oom': 1})
"""

import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import ValidationError

from farm.cells import Cell
from farm.errors import FarmError
from farm.expand import expand
from farm.keys import SCHEMA_VERSION, cell_key, load_key
from farm.plan import LoadGroup, group_by_load, latest_by_key
from farm.present.dashboard.live import Job, Log, Now
from farm.present.dashboard.log import read_log
from farm.present.dashboard.processes import Launch, is_alive, launched, process_alive
from farm.records import Record, from_json
from farm.reduce import cell_rows
from farm.rows import CellRow
from farm.store import Manifest, RunFolder
from farm.sweep import Sweep, load_sweep


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One look. `records` holds the one that counts for each cell of the sweep that has any, in the sweep's order.

    `cells`: those of the sweep by key; one whose model folder changed since is not among them.
    """

    path: Path
    manifest: Manifest | None
    problem: str | None
    cells: dict[str, Cell]
    records: dict[str, Record]
    now: Now
    is_running: bool
    launch: Launch | None
    version: str

    @property
    def keys(self) -> tuple[str, ...]:
        return self.manifest.keys if self.manifest else ()

    @property
    def counts(self) -> Counter[str]:
        return Counter(record.status.value for record in self.records.values())

    @property
    def open_keys(self) -> tuple[str, ...]:
        """Cells that this run has still to measure."""
        return tuple(key for key in self.keys if key not in self.records)

    def job_of(self, load: str) -> Job | None:
        return next((job for job in self.now.jobs if job.load == load), None)

    @property
    def open_groups(self) -> tuple[LoadGroup, ...]:
        return group_by_load(self.cells[key] for key in self.open_keys if key in self.cells)

    @property
    def waiting(self) -> tuple[LoadGroup, ...]:
        """Load groups that no worker has yet."""
        return tuple(group for group in self.open_groups if self.job_of(load_key(group.load)) is None)


@dataclass(slots=True)
class _Cache:
    """What earlier looks have read."""

    records: dict[tuple[Path, int], Record | None] = field(default_factory=dict)
    rows: tuple[str, list[CellRow]] = ("", [])
    manifest_stamp: int = -1
    manifest: Manifest | None = None
    cells: dict[str, Cell] = field(default_factory=dict)
    problem: str | None = None

    @property
    def version(self) -> str:
        """Another one whenever a record came, or the sweep changed."""
        newest = max((stamp for _, stamp in self.records), default=0)
        return f"{self.manifest_stamp}.{len(self.records)}.{newest}"


class RunReader:
    """One run folder; shared by all pages, so every look is made under a lock."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._folder = RunFolder(path)
        self._lock = threading.Lock()
        self._cache = _Cache()
        self._log, self._offset = Log(), 0

    def look(self) -> Snapshot:
        """The folder as it is now."""
        with self._lock:
            self._read_manifest()
            self._read_log()
            manifest, now, launch = self._cache.manifest, self._log.now(), launched(self.path)
            records = self._records(manifest.keys if manifest else ())
            return Snapshot(
                path=self.path,
                manifest=manifest,
                problem=self._cache.problem,
                cells=self._cache.cells,
                records=records,
                now=now,
                is_running=is_alive(now.driver, now.heard_at) or (launch is not None and process_alive(launch)),
                launch=launch,
                version=self._cache.version,
            )

    def rows(self, snapshot: Snapshot) -> list[CellRow]:
        """The snapshot's records, reduced; bootstrapping takes a while, so once for each state of the folder."""
        with self._lock:
            if self._cache.rows[0] != snapshot.version:
                self._cache.rows = (snapshot.version, cell_rows(snapshot.records.values()))
            return self._cache.rows[1]

    def _read_manifest(self) -> None:
        cache, file = self._cache, self.path / "run.json"
        try:
            stamp = file.stat().st_mtime_ns
            if stamp != cache.manifest_stamp:
                manifest = self._folder.manifest()
                cells = {cell_key(cell): cell for cell in expand(manifest.sweep, manifest.device)}
                cache.manifest_stamp, cache.manifest, cache.cells, cache.problem = stamp, manifest, cells, None
        except FileNotFoundError:
            cache.manifest, cache.cells, cache.problem = None, {}, None
        except FarmError as error:
            cache.problem = str(error)

    def _read_log(self) -> None:
        """From where the last look ended, whole lines only."""
        try:
            with (self.path / "events.jsonl").open("rb") as log:
                if log.seek(0, 2) < self._offset:  # another log: begin again
                    self._log, self._offset = Log(), 0
                log.seek(self._offset)
                whole, _, _ = log.read().rpartition(b"\n")
        except FileNotFoundError:
            return
        if whole:
            self._offset += len(whole) + 1
            for entry in read_log(whole.decode("utf-8", errors="replace")):
                self._log.take(entry)

    def _records(self, keys: Sequence[str]) -> dict[str, Record]:
        """A file is written aside and renamed, so it is whole; it is read once, and again if it is another one."""
        known = self._cache.records
        files = [(file, file.stat().st_mtime_ns) for file in (self.path / "records").glob("*/*.json")]
        self._cache.records = {stamped: known[stamped] if stamped in known else _read(stamped[0]) for stamped in files}
        latest = latest_by_key(record for record in self._cache.records.values() if record is not None)
        return {key: latest[key] for key in keys if key in latest}


def sweep_in(snapshot: Snapshot) -> Sweep | None:
    """The run's sweep; of a try whose driver has not begun yet, the one it was started with."""
    if snapshot.manifest is not None:
        return snapshot.manifest.sweep
    try:
        return load_sweep(snapshot.path / "sweep.yaml")
    except FarmError:
        return None


def _read(file: Path) -> Record | None:
    try:
        record = from_json(file.read_bytes())
    except (OSError, ValidationError):
        return None
    return record if record.schema == SCHEMA_VERSION and record.key == file.parent.name else None
