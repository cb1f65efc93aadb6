"""Where a run's files lie: a folder of any POSIX file system, an object store behind an fsspec URI, one archive file.

Why a seam: a folder has a rename and an append, an object store has neither. It has one PUT that is whole or not at
all, so that is all the rest of the farm asks for.

    >>> open_storage("memory://demo").name
    'memory://demo'
"""

import re
from pathlib import Path

from farm.storage.protocol import Storage

__all__ = ["Storage", "is_uri", "open_storage"]

_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_LOCAL = re.compile(r"(?:file|local)://")


def is_uri(place: str | Path) -> bool:
    """True for `s3://bucket/run`; False for every path, `file://` ones included."""
    return isinstance(place, str) and bool(_URI.match(place)) and not _LOCAL.match(place)


def open_storage(place: str | Path) -> Storage:
    """The storage at a path or URI; nothing is touched yet. Raises StoreError for a URI that cannot be served."""
    if is_uri(place):
        from farm.storage.objects import ObjectStore

        return ObjectStore(str(place))
    from farm.storage.archive import ENDINGS, Archive
    from farm.storage.local import LocalFolder

    path = Path(_LOCAL.sub("", str(place), count=1)).absolute()
    return Archive(path) if path.name.endswith(ENDINGS) and path.is_file() else LocalFolder(path)
