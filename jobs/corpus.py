"""The texts that quality is measured on: shipped, named, or a file; always with the hash of what was really read.

text = load_text(TextRef("demo", sha256), "gptq")
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from farm.catalog import NAMED_TEXTS
from farm.cells import TextRef
from farm.errors import FarmError, ModelUnavailable, unknown
from farm.expand import demo_text

WIKITEXT = ("Salesforce/wikitext", "wikitext-2-raw-v1")


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


_JOINED: dict[str, Callable[[Sequence[str]], str]] = {"gptq": joined_lines, "lm-eval": original_file}


def _bytes_of(ref: TextRef, protocol: str) -> bytes:
    if ref.path is not None:
        return _read(Path(ref.path))
    if ref.name == "demo":
        return demo_text().encode()
    if ref.name == "wikitext-2":
        return _JOINED[protocol](_wikitext_rows()).encode()
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


def _wikitext_rows() -> Sequence[str]:
    """The lines of WikiText-2's test split."""
    try:
        from datasets import load_dataset

        return list(load_dataset(*WIKITEXT, split="test")["text"])
    except Exception as error:  # its HTTP client, cache and parser each raise kinds of their own: all mean "not here"
        raise ModelUnavailable(
            f"wikitext-2 could not be had through the package 'datasets' ({type(error).__name__}: {error}); "
            "name a local file as quality.text instead, or use 'demo'"
        ) from error
