"""Which tokens are fed to the model and which of them are scored: pure, so that each protocol is checked by hand.

Why it matters: a token is easier to guess with more text before it, so the same model on the same text has another
perplexity for every way of cutting. Sources: GPTQ's evaluation (Frantar et al. 2022), windows that stand alone;
lm-evaluation-harness's `loglikelihood_rolling`, where every token is scored once and the first ones get a stand-in.

    >>> cut_windows([1, 2, 3, 4, 5], 2)
    (Window(tokens=(1, 2), scored=1), Window(tokens=(3, 4), scored=1))
    >>> rolling_windows([1, 2, 3], prefix=0, max_length=2)
    (Window(tokens=(0, 1, 2), scored=2), Window(tokens=(1, 2, 3), scored=1))
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby


@dataclass(frozen=True, slots=True)
class Window:
    """Consecutive tokens. The last `scored` of them are scored, each given all that stand before it here."""

    tokens: tuple[int, ...]
    scored: int


def cut_windows(token_ids: Sequence[int], window_tokens: int, max_tokens: int | None = None) -> tuple[Window, ...]:
    """Windows that do not overlap, without the ragged tail; a text shorter than one window is one window.

    The first token of each has nothing before it and is not scored.
    """
    kept = tuple(token_ids[:max_tokens])
    if len(kept) < window_tokens:
        return (Window(kept, max(0, len(kept) - 1)),)
    starts = range(0, len(kept) - window_tokens + 1, window_tokens)
    return tuple(Window(kept[start : start + window_tokens], window_tokens - 1) for start in starts)


def rolling_windows(token_ids: Sequence[int], prefix: int, max_length: int) -> tuple[Window, ...]:
    """Score every token once, at most `max_length` tokens being fed at a time; `prefix` stands before the first one.

    A last window that is shorter reaches back for context until it is full.
    """
    ids = (prefix, *token_ids)
    ends = [*range(max_length, len(token_ids), max_length), len(token_ids)] if token_ids else []
    starts = [0, *ends]
    return tuple(
        Window(ids[max(0, end - max_length) : end + 1], end - start) for start, end in zip(starts, ends, strict=False)
    )


def batches(windows: Sequence[Window], size: int) -> Iterator[tuple[Window, ...]]:
    """Windows of equal length, at most `size` together, the longest first.

    Without padding: LLM.int8 looks for outliers over a whole batch, so a padded row would change its neighbours.
    """
    ordered = sorted(windows, key=lambda window: len(window.tokens), reverse=True)
    for _, group in groupby(ordered, key=lambda window: len(window.tokens)):
        equal = tuple(group)
        for start in range(0, len(equal), size):
            yield equal[start : start + size]


def first_scored(windows: Sequence[Window], tokens: int) -> Iterator[Window]:
    """The first windows, as far as they score so many tokens; the last one is cut."""
    left = tokens
    for window in windows:
        extra = max(0, window.scored - left)
        if extra < window.scored:
            yield Window(window.tokens[: len(window.tokens) - extra], window.scored - extra)
        left -= window.scored - extra
