"""A run in a folder of a POSIX file system, local or shared (NFS, Lustre): written aside, then renamed.

LocalFolder(Path("/runs/demo")).keep("records/ab/1.json", b"{}")
"""

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from farm.errors import StoreError
from farm.storage.holder import FILE, holder_in, this_process
from farm.storage.protocol import confined


class LocalFolder:
    """See the protocol. A rename replaces a file at once for every reader; the kernel frees a dead driver's lock."""

    def __init__(self, path: Path) -> None:
        self.path, self.name = path, str(path)

    def read(self, file: str) -> bytes:
        return self._at(file).read_bytes()

    def read_all(self, files: Sequence[str]) -> Iterator[tuple[str, bytes]]:
        return ((file, self.read(file)) for file in files)

    def files(self, folder: str) -> list[str]:
        found = [file for file in self._at(folder).rglob("*") if not file.name.startswith(".")]
        return sorted(file.relative_to(self.path).as_posix() for file in found if file.is_file())

    def replace(self, file: str, data: bytes) -> None:
        target = self._at(file)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            _write_atomically(target, data)
        except OSError as error:
            raise _unwritable(target, error) from None

    keep = replace  # the attempt number is new, so there is nothing that a rename could replace

    def set_aside(self, file: str) -> None:
        self._at(file).replace(self._at(file + ".damaged"))

    def log(self, line: str) -> None:
        """One write call a line: readers never see half of it."""
        file = self._at("events.jsonl")
        try:
            with file.open("a", encoding="utf-8") as log:
                log.write(line)
        except OSError as error:
            raise _unwritable(file, error) from None

    def logged(self) -> str:
        try:
            return self.read("events.jsonl").decode()
        except FileNotFoundError:
            return ""

    @contextmanager
    def locked(self) -> Iterator[None]:
        """The lock is the kernel's; `lock.json` beside it only tells the one who is refused whom to ask."""
        self._make()
        lock = FileLock(self._at("lock"))
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise StoreError(
                f"{self.name}: another run is writing here ({self._holder()}); wait for it, or give this one another "
                "--out"
            ) from None
        try:
            self.replace(FILE, this_process("", time.time()).to_json())
            yield
        finally:
            self._at(FILE).unlink(missing_ok=True)
            lock.release()

    def _holder(self) -> str:
        try:
            return str(holder_in(self.read(FILE)))
        except FileNotFoundError:  # it has the lock and is about to say so
            return "it has just started"

    def _make(self) -> None:
        try:
            self._at("records").mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(f"{self.name}: cannot be created ({error.strerror}); choose another --out") from None

    @contextmanager
    def publishing(self) -> Iterator[Path]:
        yield self.path

    def _at(self, file: str) -> Path:
        return self.path / confined(file)


def _unwritable(file: Path, error: OSError) -> StoreError:
    return StoreError(f"{file}: cannot be written ({error.strerror}); free space, then `farm resume`")


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
