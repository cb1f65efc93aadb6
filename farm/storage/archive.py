"""A run in one file, `run.tar.gz`: to carry it from the machine that measured it, and to commit it beside its results.

Why a tar and not a format of our own: `tar xzf` gives the run folder back, and `tar czf` makes an archive that can be
read here. It is only read: a run goes on in a folder.

    Archive(Path("benchmarks/records.tar.gz")).read("run.json")
"""

import gzip
import io
import tarfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import NoReturn

from farm.errors import StoreError
from farm.storage.protocol import Storage

ENDINGS = (".tar.gz", ".tgz")
MAX_BYTES = 1 << 30
_EPOCH = 0  # of every file inside, and of the gzip header: the same run gives the same bytes


class Archive:
    """See the protocol. Everything is in memory after opening: 100 cells are some megabytes."""

    def __init__(self, path: Path) -> None:
        self.path, self.name = path, str(path)
        self._members = _unpacked(path)

    def read(self, file: str) -> bytes:
        if file not in self._members:
            raise FileNotFoundError(file)
        return self._members[file]

    def read_all(self, files: Sequence[str]) -> Iterator[tuple[str, bytes]]:
        return ((file, self.read(file)) for file in files)

    def files(self, folder: str) -> list[str]:
        return sorted(name for name in self._members if name.startswith(f"{folder}/"))

    def logged(self) -> str:
        return self._members.get("events.jsonl", b"").decode()

    def replace(self, file: str, data: bytes) -> None:
        self._refuse()

    def keep(self, file: str, data: bytes) -> None:
        self._refuse()

    def set_aside(self, file: str) -> None:
        raise StoreError(f"{self.name}: {file} in it is damaged; copy the archive again from where it was made")

    def log(self, line: str) -> None:
        self._refuse()

    def locked(self) -> AbstractContextManager[None]:
        self._refuse()

    def publishing(self) -> AbstractContextManager[Path]:
        self._refuse()

    def _refuse(self) -> NoReturn:
        raise StoreError(
            f"{self.name} is an archive and is only read: unpack it (tar xzf) to go on with the run, or name a folder "
            "for tables and figures with `farm report ARCHIVE --into DIR`"
        )


def pack(run: Storage) -> bytes:
    """Manifest, log and records of a run, its other files left out. The same run gives the same bytes."""
    names = ["run.json", *run.files("records"), *run.files("canary")]
    members = [*run.read_all(names), ("events.jsonl", run.logged().encode())]
    return gzip.compress(_tarred(members), mtime=_EPOCH)


def _tarred(members: Iterable[tuple[str, bytes]]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, data in members:
            about = tarfile.TarInfo(name)
            about.size, about.mtime = len(data), _EPOCH
            tar.addfile(about, io.BytesIO(data))
    return buffer.getvalue()


def _unpacked(path: Path) -> dict[str, bytes]:
    try:
        with tarfile.open(path, mode="r:gz") as tar:
            members = [member for member in tar if member.isfile()]
            if sum(member.size for member in members) > MAX_BYTES:
                raise StoreError(f"{path}: more than {MAX_BYTES:,} bytes when unpacked; that is no archive of a run")
            found = ((member.name.removeprefix("./"), tar.extractfile(member)) for member in members)
            return {name: file.read() for name, file in found if file is not None}
    except (OSError, EOFError, tarfile.TarError) as error:
        raise StoreError(f"{path} cannot be read as an archive of a run ({error}); make it again") from None
