"""The key of a cell: a sha256 that is equal exactly when the same thing is measured.

Over the canonical JSON of the cell and the schema version; no paths, no times, no library versions (those are the
record's environment). Fields marked `in_key=False` and fields at their default are left out.
"""

import hashlib
import json
from dataclasses import Field, fields, is_dataclass
from typing import Any

from farm.cells import Cell, Load

SCHEMA_VERSION = 1


def cell_key(cell: Cell) -> str:
    """64 hex digits; the name of the folder that keeps the cell's records."""
    return _digest({"schema": SCHEMA_VERSION, "cell": _identity(cell)})


def load_key(load: Load) -> str:
    """Short name of a load group, for logs and file names."""
    return _digest(_identity(load))[:12]


def _identity(value: Any) -> Any:
    if is_dataclass(value):
        return {f.name: _identity(getattr(value, f.name)) for f in fields(value) if _counts(f, getattr(value, f.name))}
    if isinstance(value, tuple):
        return [_identity(item) for item in value]
    return value


def _counts(part: Field[Any], value: Any) -> bool:
    """A field at its default is left out, so that a field added later does not orphan every older record."""
    return part.metadata.get("in_key", True) and (value != part.default or part.name == "kind")


def _digest(value: Any) -> str:
    canonical = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()
