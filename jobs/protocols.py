"""The perplexity protocols: from a text to the windows that are scored, and the words and bytes to divide by.

Why a protocol id: the same model on the same text is 5.47, 5.12 or 8.79, by window and by whether tokens or words are
counted. Each protocol is one function here; the scoring itself is common to all (`jobs.quality`).

`gptq-<window>`: the whole text is encoded at once, without special tokens, and cut into windows that do not overlap;
the ragged tail is dropped. Source: the evaluation of Frantar et al., GPTQ (2022), as most papers since report it.

`lm-eval-<window>`: the task `wikitext` of EleutherAI's lm-evaluation-harness (read in version 0.4.13). Each page is
detokenized and encoded with the tokenizer's own special tokens; BOS (or EOS) stands before it, even twice where the
tokenizer adds one; every token of it is scored in rolling windows of at most `window` tokens (the harness's
`max_length`). Words and bytes are those of the page before it was detokenized.

    sample = sample_of(tokenizer, QualityTask("lm-eval", ref, 2048, None), text)
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from farm.cells import QualityTask
from farm.errors import Unsupported
from jobs.corpus import Text
from jobs.prompts import Tokenizer
from jobs.wikitext import count_words, detokenize, split_pages
from jobs.windows import Window, cut_windows, rolling_windows


@dataclass(frozen=True, slots=True)
class Sample:
    """What is scored, and the words and bytes that the sum is divided by."""

    windows: tuple[Window, ...]
    words: int
    utf8_bytes: int

    @property
    def tokens(self) -> int:
        return sum(window.scored for window in self.windows)


@dataclass(frozen=True, slots=True)
class Page:
    """A page as published, and the tokens of its detokenized form."""

    text: str
    token_ids: tuple[int, ...]


def sample_of(tokenizer: Tokenizer, task: QualityTask, text: Text) -> Sample:
    """Cut a text as the task's protocol says. Raises Unsupported when the tokenizer lacks what it needs."""
    return _SAMPLERS[task.protocol](tokenizer, task, text)


def _gptq(tokenizer: Tokenizer, task: QualityTask, text: Text) -> Sample:
    """Words and bytes are those of what is scored; a word cut by a window's edge counts on each side."""
    ids = tokenizer.encode(text.content, add_special_tokens=False)
    windows = cut_windows(ids, task.window_tokens, task.max_tokens)
    texts = [str(tokenizer.decode(list(window.tokens[1:]))) for window in windows]
    words = sum(len(piece.split()) for piece in texts)
    return Sample(windows, words, sum(len(piece.encode()) for piece in texts))


def _lm_eval(tokenizer: Tokenizer, task: QualityTask, text: Text) -> Sample:
    prefix = _prefix_token(tokenizer)
    pages = list(_pages_within(split_pages(text.content), tokenizer, prefix, task.max_tokens))
    return Sample(
        windows=tuple(w for page in pages for w in rolling_windows(page.token_ids, prefix, task.window_tokens)),
        words=sum(count_words(page.text) for page in pages),
        utf8_bytes=sum(len(page.text.encode()) for page in pages),
    )


def _pages_within(pages: Sequence[str], tokenizer: Tokenizer, prefix: int, max_tokens: int | None) -> Iterator[Page]:
    """Whole pages up to `max_tokens`; a first page that is longer alone is cut at a space to roughly so many."""
    total = 0
    for index, text in enumerate(pages):
        page = _page(text, tokenizer, prefix)
        total += len(page.token_ids)
        if max_tokens is not None and total > max_tokens:
            if index == 0:
                yield _page(_beginning(text, max_tokens / total), tokenizer, prefix)
            return
        yield page


def _page(text: str, tokenizer: Tokenizer, prefix: int) -> Page:
    """Special tokens as the tokenizer adds them by default, but not to a page that spells its prefix token out."""
    prose = detokenize(text)
    spelled = str(tokenizer.decode([prefix]))
    if spelled and prose.startswith(spelled):
        return Page(text, tuple(tokenizer.encode(prose, add_special_tokens=False)))
    return Page(text, tuple(tokenizer.encode(prose)))


def _beginning(text: str, fraction: float) -> str:
    """That part of a text, less the word it would cut."""
    cut = text[: int(len(text) * fraction)]
    return cut.rpartition(" ")[0] or cut


def _prefix_token(tokenizer: Any) -> int:
    for name in ("bos_token_id", "eos_token_id"):
        token = getattr(tokenizer, name, None)
        if token is not None:
            return int(token)
    raise Unsupported(
        "lm-eval puts BOS or EOS before every page, and this tokenizer has neither; use the protocol gptq"
    )


_SAMPLERS: dict[str, Callable[[Tokenizer, QualityTask, Text], Sample]] = {"gptq": _gptq, "lm-eval": _lm_eval}
