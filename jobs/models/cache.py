"""Folders built once and kept: safe when several actors ask at the same moment, and when a builder is killed.

Why: preparing a model costs minutes and a node runs one actor a GPU, so they all ask together; the driver also kills
hung actors, which may be in the middle of building. Hence: one builder at a time (an advisory lock that the kernel
drops when its holder dies), work in a temporary sibling, and one atomic rename at the end. A reader needs no lock:
a folder is complete when its marker names every file and each has the size it was built with.

    >>> import tempfile
    >>> cache = Path(tempfile.mkdtemp())
    >>> build_once(cache / "greeting", lambda folder: (folder / "text").write_text("hello")).name
    'greeting'
"""

import json
import os
import shutil
import uuid
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock

MARKER = ".turbo-complete.json"


def cache_root() -> Path:
    """Where prepared models live: $TURBO_CACHE, else `~/.cache/turbo-inferencia`."""
    chosen = os.environ.get("TURBO_CACHE") or "~/.cache/turbo-inferencia"
    return Path(chosen).expanduser().absolute()


def build_once(folder: Path, build: Callable[[Path], object]) -> Path:
    """Return `folder`, built by `build(temporary_folder)` if it is not complete yet.

    Whatever lies at `folder` without a valid marker is replaced. Others wait for as long as the builder lives.
    """
    if is_complete(folder):
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_name(f".{folder.name}.lock")):
        if not is_complete(folder):
            _remove_leftovers(folder)
            _build(folder, build)
    return folder


def is_complete(folder: Path) -> bool:
    """True when the marker is there and every file it names has its size.

    The sizes catch what a bare marker cannot: a clean-up of old files, or a deletion by hand that stopped half way.
    """
    try:
        sizes = json.loads((folder / MARKER).read_text(encoding="utf-8"))
        return all((folder / name).stat().st_size == size for name, size in sizes.items())
    except (OSError, ValueError):
        return False


def _build(folder: Path, build: Callable[[Path], object]) -> None:
    # A fresh name each time: a child process of a killed builder may still be writing into its own folder.
    temporary = folder.with_name(f"{_temporary_prefix(folder)}{uuid.uuid4().hex[:8]}")
    temporary.mkdir()
    try:
        build(temporary)
        _seal(temporary)
        temporary.rename(folder)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    _sync(folder.parent)


def _remove_leftovers(folder: Path) -> None:
    """Call under the lock only: then every temporary folder belongs to a builder that is dead."""
    prefix = _temporary_prefix(folder)
    for entry in folder.parent.iterdir():
        if entry == folder or entry.name.startswith(prefix):
            shutil.rmtree(entry, ignore_errors=True)


def _temporary_prefix(folder: Path) -> str:
    return f".{folder.name}.building-"


def _seal(folder: Path) -> None:
    """Write the marker and push everything to the disk: after a power cut a renamed folder must not hold empty files.

    Directories are synced too, because a file's name lives in its directory. All files get the mode that the umask
    gives: safetensors writes 0600, and another user of the cache could not read its files. Links are left alone: what
    they point to belongs to somebody else.
    """
    files = sorted(path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    sizes = {path.relative_to(folder).as_posix(): path.stat().st_size for path in files}
    marker = folder / MARKER
    marker.write_text(json.dumps(sizes, indent=1), encoding="utf-8")
    for path in files:
        path.chmod(marker.stat().st_mode)
    for path in (*files, marker, *(path for path in folder.rglob("*") if path.is_dir()), folder):
        _sync(path)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
