"""Which runs there are: a folder of run folders, or one run folder alone; names from a page become paths only here.

library = Library(Path("runs"))
library.names()             # ('demo', 'mission', 'try/20260131-120000-4f2a'), the newest first
library.reader("demo")      # FarmError for any name that is not among them
"""

import re
import threading
from pathlib import Path

from farm.errors import FarmError
from farm.present.dashboard.processes import FILE
from farm.present.dashboard.reading import RunReader

NAME = re.compile(r"(try/)?[A-Za-z0-9][A-Za-z0-9._-]{0,100}")
TRIES = "try"


class Library:
    """`home` is a run folder, or the folder that holds them; runs that a page starts go to `try/` beside them."""

    def __init__(self, home: Path) -> None:
        home = home.absolute()
        self.chosen = home.name if (home / "run.json").is_file() else None
        self.home = home.parent if self.chosen else home
        self._readers: dict[str, RunReader] = {}
        self._lock = threading.Lock()

    def names(self) -> tuple[str, ...]:
        """Every run, the latest change first; the one that was asked for before all others."""
        folders = [*_runs_in(self.home), *_runs_in(self.home / TRIES)]
        newest = sorted(folders, key=_changed, reverse=True)
        names = [folder.relative_to(self.home).as_posix() for folder in newest]
        return tuple(sorted((name for name in names if NAME.fullmatch(name)), key=lambda name: name != self.chosen))

    def sweeps(self) -> tuple[str, ...]:
        """Without those that the try page started."""
        return tuple(name for name in self.names() if not name.startswith(f"{TRIES}/"))

    def reader(self, name: str) -> RunReader:
        """Raises FarmError for a name that is no run here."""
        path = self.home / name
        if not NAME.fullmatch(name) or ".." in name or not _is_run(path):
            raise FarmError(f"no run {name[:120]!r} in {self.home}; choose one of the list")
        with self._lock:
            return self._readers.setdefault(name, RunReader(path))

    def running(self) -> tuple[str, ...]:
        """The runs that a driver is at work on."""
        return tuple(name for name in self.names() if self.reader(name).look().is_running)


def _runs_in(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if _is_run(path)] if folder.is_dir() else []


def _is_run(path: Path) -> bool:
    return (path / "run.json").is_file() or (path / FILE).is_file()


def _changed(path: Path) -> float:
    log = path / "events.jsonl"
    return (log if log.is_file() else path).stat().st_mtime
