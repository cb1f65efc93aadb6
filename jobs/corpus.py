"""The texts that quality is measured on: shipped, named, or a file; always with the hash of what was really read.

text = load_text(TextRef("demo", sha256), "gptq")

A named text comes from `$TURBO_TEXT_DIR/NAME.txt` where there is such a file (as published, e.g. `wiki.valid.tokens`
for wikitext-2-valid), so that a machine without a hub measures under the same name; otherwise through `datasets`.
"""

import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from farm.catalog import NAMED_TEXTS
from farm.cells import TextRef
from farm.errors import FarmError, ModelUnavailable, unknown
from farm.expand import demo_text

# Data set, configuration and split. `valid` is the edition in which rare words are <unk>, `wikitext-2` the raw one.
WIKITEXT = {
    "wikitext-2": ("Salesforce/wikitext", "wikitext-2-raw-v1", "test"),
    "wikitext-2-valid": ("Salesforce/wikitext", "wikitext-2-v1", "validation"),
}
# Of the file as published: a local copy under a known name must be that text.
SHA256 = {"wikitext-2-valid": "f0737ed31fc1329026e95cb8b98e19c2a182c39c240ab909dc31abf2f8af58e8"}


class QualityError(FarmError):
    """The text or the model gives no perplexity that may be written."""


@dataclass(frozen=True, slots=True)
class Text:
    """A text and the hash that identifies it."""

    name: str
    content: str
    sha256: str


def load_text(ref: TextRef, protocol: str = "gptq") -> Text:
    """The text itself. Raises ModelUnavailable when it cannot be had, QualityError when it is another one by now."""
    data = _bytes_of(ref, protocol)
    sha256 = hashlib.sha256(data).hexdigest()
    if ref.sha256 not in (None, sha256):
        raise QualityError(f"{ref.path or ref.name}: the text changed since the sweep was read; start a new run")
    return Text(ref.name, _decoded(data, ref), sha256)


def joined_lines(rows: Sequence[str]) -> str:
    """WikiText as GPTQ's evaluation joins it."""
    return "\n\n".join(rows)


def original_file(rows: Sequence[str]) -> str:
    """WikiText as it was published: the data set keeps each line with its end, but blank ones as empty."""
    return "".join(row or " \n" for row in rows)


def rows_of(file: str) -> list[str]:
    """The published file as the data set's rows: what `original_file` puts together again."""
    return [line if line.strip() else "" for line in file.splitlines(keepends=True)]


_JOINED: dict[str, Callable[[Sequence[str]], str]] = {"gptq": joined_lines, "lm-eval": original_file}


def _bytes_of(ref: TextRef, protocol: str) -> bytes:
    if ref.path is not None:
        return _read(Path(ref.path))
    if ref.name == "demo":
        return demo_text().encode()
    if ref.name in WIKITEXT:
        return _JOINED[protocol](_wikitext_rows(ref.name)).encode()
    raise QualityError(unknown("text", ref.name, NAMED_TEXTS, where="quality.text"))


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ModelUnavailable(
            f"{path}: the text cannot be read here ({error.strerror}); every node needs it at this path"
        ) from error


def _decoded(data: bytes, ref: TextRef) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise QualityError(
            f"{ref.path or ref.name} is not UTF-8; convert it, so that its bytes mean one text"
        ) from None


def _wikitext_rows(name: str) -> Sequence[str]:
    local = os.environ.get("TURBO_TEXT_DIR")
    file = Path(local, f"{name}.txt") if local else None
    return _rows_from_hub(name) if file is None or not file.is_file() else rows_of(_checked(file, name).decode())


def _checked(file: Path, name: str) -> bytes:
    """Raises QualityError for a local copy of another text."""
    data = _read(file)
    found, expected = hashlib.sha256(data).hexdigest(), SHA256.get(name)
    if expected not in (None, found):
        raise QualityError(f"{file} is not {name} as published: sha256 {found}, expected {expected}; replace the file")
    return data


def _rows_from_hub(name: str) -> Sequence[str]:
    data_set, configuration, split = WIKITEXT[name]
    try:
        from datasets import load_dataset

        return list(load_dataset(data_set, configuration, split=split)["text"])
    except Exception as error:  # its HTTP client, cache and parser each raise kinds of their own: all mean "not here"
        raise ModelUnavailable(
            f"{name} could not be had through the package 'datasets' ({type(error).__name__}: {error}); "
            f"put it at $TURBO_TEXT_DIR/{name}.txt, name a local file as quality.text, or use 'demo'"
        ) from error
