"""What the run folder asks of a place that keeps files. Names are relative, with `/`, and stay below the place."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path, PurePosixPath
from typing import Protocol

from farm.errors import StoreError


class Storage(Protocol):
    """Methods raise StoreError with a sentence when the place cannot be used; a missing file is FileNotFoundError."""

    name: str  # what the user called it, for messages

    def read(self, file: str) -> bytes: ...

    def read_all(self, files: Sequence[str]) -> Iterator[tuple[str, bytes]]:
        """The contents of many files, in their order."""
        ...

    def files(self, folder: str) -> list[str]:
        """The names of all files below a folder, sorted; none when there is no such folder."""
        ...

    def replace(self, file: str, data: bytes) -> None:
        """Write a file whole or not at all; an earlier one of this name is gone afterwards."""
        ...

    def keep(self, file: str, data: bytes) -> None:
        """Write a file for good, whole or not at all: after this returns, a power cut does not lose it."""
        ...

    def set_aside(self, file: str) -> None:
        """Rename a file to `<file>.damaged`."""
        ...

    def log(self, line: str) -> None:
        """Add a line to the event log."""
        ...

    def logged(self) -> str:
        """The event log, the lines of earlier drivers first."""
        ...

    def locked(self) -> AbstractContextManager[None]:
        """Be the only driver here, as far as this place can promise it. StoreError when another one is at work."""
        ...

    def publishing(self) -> AbstractContextManager[Path]:
        """A local folder for derived files; they are in their place when the context ends well."""
        ...


def confined(file: str) -> str:
    """The name itself, or StoreError when it would leave the place that keeps it."""
    path = PurePosixPath(file)
    if not file or path.is_absolute() or ".." in path.parts or "\\" in file or "\0" in file:
        raise StoreError(f"{file!r} is no name inside a run folder; the file that says so was not made by the farm")
    return file
