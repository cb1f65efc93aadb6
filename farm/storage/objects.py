"""A run in an object store (`s3://`, `gs://`, any fsspec URI): one PUT a record, whole or not at all.

An object cannot be appended to, so the event log is `events/<session>-<batch>.jsonl`: one object for what came in
since the last, written with the next event after `FLUSH_S`. A driver killed by force loses the log lines that wait for
that event, and never a record.

What is promised about two drivers: `farm.storage.lease` keeps the second one out. Should both run all the same (a
network cut longer than a lease), no record is ever written over: it is created only where none is.

    store = ObjectStore("s3://bucket/runs/demo")
"""

import importlib.util
import re
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import fsspec

from farm.errors import FarmError, StoreError
from farm.storage.lease import Lease, new_session
from farm.storage.protocol import confined

FLUSH_S = 5.0
CLIENTS = {"s3": "s3fs", "s3a": "s3fs", "gs": "gcsfs", "gcs": "gcsfs"}


class ObjectStore:
    """See the protocol."""

    def __init__(self, uri: str, clock: Callable[[], float] = time.monotonic) -> None:
        self.name = _without_secrets(uri).rstrip("/")
        self.clock = clock
        self._fs, self._root = _open(self.name)
        self._session = new_session()
        self._lines: list[str] = []
        self._batches, self._flushed_s = 0, clock()
        self._lease: Lease | None = None

    def read(self, file: str) -> bytes:
        with self._said(file, FileNotFoundError):
            data: bytes = self._fs.cat_file(self._at(file))
        return data

    def read_all(self, files: Sequence[str]) -> Iterator[tuple[str, bytes]]:
        """One call for all of them: object stores serve many at once, and one after another is slow."""
        if not files:
            return
        with self._said(files[0]):
            found = self._fs.cat([self._at(file) for file in files], on_error="raise")
        contents = found if isinstance(found, dict) else {self._at(files[0]): found}
        plain = {self._fs._strip_protocol(path): data for path, data in contents.items()}
        yield from ((file, plain[self._fs._strip_protocol(self._at(file))]) for file in files)

    def files(self, folder: str = "") -> list[str]:
        found: list[str] = []
        prefix = self._fs._strip_protocol(self._root).rstrip("/") + "/"
        with self._said(folder, FileNotFoundError), suppress(FileNotFoundError):
            self._fs.invalidate_cache()
            found = self._fs.find(self._at(folder) if folder else self._root)
        return sorted(path.removeprefix(prefix) for path in found)

    def replace(self, file: str, data: bytes) -> None:
        with self._said(file):
            self._fs.pipe_file(self._at(file), data)

    def create(self, file: str, data: bytes) -> None:
        """Raises FileExistsError when the object is there: the store itself decides, so only one of two can win."""
        with self._said(file, FileExistsError):
            self._fs.pipe_file(self._at(file), data, mode="create")

    def keep(self, file: str, data: bytes) -> None:
        if self._lease is not None:
            self._lease.check()
        try:
            self.create(file, data)
        except FileExistsError:
            if self.read(file) == data:  # the client sent it twice: the first answer was lost on the way
                return
            raise StoreError(
                f"{self.name}/{file} is there already: another run is writing here; stop one, then `farm resume`"
            ) from None

    def remove(self, file: str) -> None:
        with self._said(file, FileNotFoundError):
            self._fs.rm_file(self._at(file))

    def set_aside(self, file: str) -> None:
        self.replace(file + ".damaged", self.read(file))
        self.remove(file)

    def log(self, line: str) -> None:
        self._lines.append(line)
        if self.clock() - self._flushed_s >= FLUSH_S:
            self._flush()

    def _flush(self) -> None:
        if self._lines:
            self._batches += 1
            self.replace(f"events/{self._session}-{self._batches:06d}.jsonl", "".join(self._lines).encode())
        self._lines, self._flushed_s = [], self.clock()

    def logged(self) -> str:
        self._flush()
        return "".join(data.decode() for _, data in self.read_all(self.files("events")))

    @contextmanager
    def locked(self) -> Iterator[None]:
        with Lease(self, self._session) as lease:
            self._lease = lease
            try:
                yield
            finally:
                self._flush()
                self._lease = None

    @contextmanager
    def publishing(self) -> Iterator[Path]:
        """A scratch folder; everything that is made there is uploaded, one PUT a file."""
        with tempfile.TemporaryDirectory() as scratch:
            out = Path(scratch)
            yield out
            for file in sorted(file for file in out.rglob("*") if file.is_file()):
                self.replace(file.relative_to(out).as_posix(), file.read_bytes())

    def _at(self, file: str) -> str:
        return f"{self._root}/{confined(file)}"

    @contextmanager
    def _said(self, file: str, *answers: type[Exception]) -> Iterator[None]:
        """Every store's client has errors of its own; which one, and what it said, is all that a user can act on.

        `answers` are those that the caller asked for.
        """
        passed_on: tuple[type[Exception], ...] = (FarmError, *answers)
        try:
            yield
        except passed_on:
            raise
        except Exception as error:
            said = " ".join(str(error).split())[:200]
            raise StoreError(
                f"{self.name}/{file}: the object store answered {type(error).__name__}: {said}; "
                "check the bucket, the address and this machine's credentials, then `farm resume`"
            ) from None


def _open(uri: str) -> tuple[Any, str]:
    """The client and the run's root in it; no listings are cached, since another driver may write."""
    protocol, _, place = uri.partition("://")
    if not place:
        raise StoreError(f"{protocol.rstrip(':')}://: no bucket is named; write it as in s3://BUCKET/runs/NAME")
    package = CLIENTS.get(protocol.lower())
    if package and importlib.util.find_spec(package) is None:
        raise StoreError(f"{uri}: {protocol}:// needs the package {package}: pip install -r requirements-stores.txt")
    try:
        fs, root = fsspec.url_to_fs(uri, use_listings_cache=False)
    except (ImportError, ValueError) as error:
        raise StoreError(
            f"{uri}: cannot be used ({' '.join(str(error).split())}); use a path, s3:// or gs://"
        ) from None
    return fs, root.rstrip("/")


def _without_secrets(uri: str) -> str:
    """The URI goes into logs and reports: refuse one that carries a password, and the chains that could hide one."""
    authority = re.match(r"[^:]+://([^/]*)", uri)
    if "::" in uri or (authority and "@" in authority[1]):
        shown = uri.partition("://")[0] + "://..."
        raise StoreError(
            f"{shown}: no user, password or chain in --out; give credentials as the store's client reads them"
        )
    return uri
