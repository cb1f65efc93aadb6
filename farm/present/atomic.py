"""Write a file whole or not at all, so that a reader never meets half a report.

write_atomically(Path("out/results.csv"), b"...")
"""

import os
from pathlib import Path

from farm.errors import FarmError


def write_atomically(file: Path, data: bytes) -> Path:
    """Write aside in the same folder, then rename; creates the folder. Returns the file. Raises FarmError."""
    aside = file.with_name(f".{file.name}.{os.getpid()}.tmp")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        try:
            aside.write_bytes(data)
            aside.replace(file)
        finally:
            aside.unlink(missing_ok=True)
    except OSError as error:
        raise FarmError(f"{file}: cannot be written ({error.strerror}); free it, or choose another folder") from None
    return file
