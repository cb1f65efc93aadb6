"""Perplexity by a named protocol, kept as one sum of negative log-likelihoods.

Why a protocol id: the same model on the same text is 5.47, 5.12 or 8.79, by window and by whether tokens or words are
counted. `gptq-<window>`: the whole text is encoded at once, without special tokens, and cut into windows that do not
overlap; each is scored alone, its first token has no context and is not scored, the ragged tail is dropped. From the
sum come token perplexity exp(nll / tokens), word perplexity exp(nll / words) and bits per byte.

    result = measure_quality(engine, QualityTask("gptq", text_ref, window_tokens=2048, max_tokens=None))
"""

import hashlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from farm.catalog import NAMED_TEXTS
from farm.cells import QualityTask, TextRef
from farm.errors import FarmError, ModelUnavailable, Unsupported, unknown
from farm.expand import demo_text
from farm.records import QualityResult
from jobs.engines.base import Engine

WIKITEXT = ("Salesforce/wikitext", "wikitext-2-raw-v1")
Window = tuple[int, ...]


class QualityError(FarmError):
    """The text or the model gives no perplexity that may be written."""


@dataclass(frozen=True, slots=True)
class Text:
    """A text and the hash that identifies it."""

    name: str
    content: str
    sha256: str


@dataclass(frozen=True, slots=True)
class Span:
    """The scored part of a text: every window without its first token."""

    tokens: int
    words: int
    utf8_bytes: int


def measure_quality(engine: Engine, task: QualityTask, max_batch: int = 1) -> QualityResult:
    """Score a text. Raises QualityError for a sum that is not finite, ModelUnavailable when the text cannot be had."""
    text = load_text(task.text)
    token_ids = engine.tokenizer.encode(text.content, add_special_tokens=False)
    windows = cut_windows(token_ids, task.window_tokens, task.max_tokens)
    _check_windows(windows, engine, text)
    span = scored_span(windows, engine)
    return QualityResult(
        protocol=f"{task.protocol}-{task.window_tokens}",
        text=text.name,
        text_sha256=text.sha256,
        nll_sum=_nll_sum(engine, windows, max_batch, span.tokens),
        tokens_scored=span.tokens,
        words=span.words,
        utf8_bytes=span.utf8_bytes,
        effective=engine.effective(None),
    )


def cut_windows(token_ids: Sequence[int], window_tokens: int, max_tokens: int | None = None) -> tuple[Window, ...]:
    """Windows that do not overlap, without the ragged tail; a text shorter than one window is one window.

    >>> cut_windows([1, 2, 3, 4, 5], 2)
    ((1, 2), (3, 4))
    """
    kept = tuple(token_ids[:max_tokens])
    if len(kept) < window_tokens:
        return (kept,)
    starts = range(0, len(kept) - window_tokens + 1, window_tokens)
    return tuple(kept[start : start + window_tokens] for start in starts)


def scored_span(windows: Sequence[Window], engine: Engine) -> Span:
    """Count tokens, words and bytes of what is scored; a word cut by a window's edge counts on each side."""
    scored = [list(window[1:]) for window in windows]
    texts = [str(engine.tokenizer.decode(ids)) for ids in scored]
    return Span(
        tokens=sum(map(len, scored)),
        words=sum(len(text.split()) for text in texts),
        utf8_bytes=sum(len(text.encode()) for text in texts),
    )


def load_text(ref: TextRef) -> Text:
    """The text itself. Raises ModelUnavailable when it cannot be had, QualityError when it is another one by now."""
    if ref.path is not None:
        data = _read(Path(ref.path))
    elif ref.name == "demo":
        data = demo_text().encode()
    elif ref.name == "wikitext-2":
        data = _wikitext().encode()
    else:
        raise QualityError(unknown("text", ref.name, NAMED_TEXTS, where="quality.text"))
    sha256 = hashlib.sha256(data).hexdigest()
    if ref.sha256 not in (None, sha256):
        raise QualityError(f"{ref.path or ref.name}: the text changed since the sweep was read; start a new run")
    return Text(ref.name, _decoded(data, ref), sha256)


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


def _wikitext() -> str:
    """WikiText-2's test split, lines joined as GPTQ does."""
    try:
        from datasets import load_dataset

        return "\n\n".join(load_dataset(*WIKITEXT, split="test")["text"])
    except Exception as error:  # its HTTP client, cache and parser each raise kinds of their own: all mean "not here"
        raise ModelUnavailable(
            f"wikitext-2 could not be had through the package 'datasets' ({type(error).__name__}: {error}); "
            "name a local file as quality.text instead, or use 'demo'"
        ) from error


def _check_windows(windows: Sequence[Window], engine: Engine, text: Text) -> None:
    longest = len(windows[0])
    if longest < 2:
        raise QualityError(f"{text.name} has only {longest} tokens; a score needs 2 at least")
    if longest > engine.max_positions:
        raise Unsupported(
            f"windows of {longest} tokens exceed the model's {engine.max_positions} positions; "
            "lower quality.window_tokens"
        )


def _nll_sum(engine: Engine, windows: Sequence[Window], max_batch: int, expected: int) -> float:
    """Exactly rounded: thousands of small terms added in turn would lose the last digits."""
    scores = [score for batch in _batches(windows, max_batch) for row in engine.token_nll(batch) for score in row]
    if len(scores) != expected:
        raise QualityError(f"the engine scored {len(scores)} tokens of {expected}")
    total = math.fsum(scores)
    if not math.isfinite(total):
        raise QualityError("the negative log-likelihood is not finite: this precision overflows or the weights are bad")
    return total


def _batches(windows: Sequence[Window], size: int) -> Iterator[Sequence[Window]]:
    for start in range(0, len(windows), size):
        yield windows[start : start + size]
