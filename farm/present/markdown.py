"""Markdown by rule: a table from lines, and a block between two marks of a file that is otherwise written by hand.

>>> print(table(["precision", "tok/s"], [["fp16", "32.7"]]))
| precision | tok/s |
|---|---|
| fp16 | 32.7 |
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

from farm.errors import FarmError
from farm.present.atomic import write_atomically


def table(header: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """A line break or a bar inside a cell would end it: both are written so that they do not."""
    rows = [header, ["---"] * len(header), *lines]
    return "\n".join(f"|{'|'.join(_padded(cell) for cell in row)}|" for row in rows)


def _padded(cell: str) -> str:
    text = " ".join(cell.splitlines()).replace("|", "\\|")
    return text if text == "---" else f" {text} "


def replace_block(file: Path, mark: str, text: str) -> Path:
    """Write `text` between `<!-- mark:begin -->` and `<!-- mark:end -->`. Raises FarmError without such marks."""
    begin, end = f"<!-- {mark}:begin -->", f"<!-- {mark}:end -->"
    before, found, rest = file.read_text(encoding="utf-8").partition(begin)
    _, closed, after = rest.partition(end)
    if not found or not closed:
        raise FarmError(f"{file}: the marks {begin} and {end} are not there; put them where the block belongs")
    return write_atomically(file, f"{before}{begin}\n{text.strip()}\n{end}{after}".encode())


def block_of(text: str, mark: str) -> str:
    """What stands between the marks, as `replace_block` was given it."""
    return text.partition(f"<!-- {mark}:begin -->")[2].partition(f"<!-- {mark}:end -->")[0].strip()
