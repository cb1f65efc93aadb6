"""Figures derived from raw samples: each formula alone, pure, and checked by hand in a test.

The physics: the prompt is one forward pass over many tokens (bound by arithmetic), each later token one pass over one
(bound by memory traffic), so the two are timed and reported apart.

    >>> prefill_tok_s(prefill_s=0.25, batch=4, prompt_tokens=512)
    8192.0

Every function answers None where the figure does not exist (one output token has no gap, an unmeasured value has no
ratio): None travels through to an empty column, a 0 would lie.

Sources: TPOT as in the MLPerf Inference rules (time after the first token over the tokens after the first); perplexity,
word perplexity and bits per byte from one sum of negative log-likelihoods as in EleutherAI's lm-evaluation-harness.
"""

import math
from collections.abc import Sequence

from farm.records import Trial

PPL_LIMIT_PERCENT = 5.0  # the mission's rule: quantization may cost less than this


def tpot_s(trial: Trial) -> float | None:
    """Time per output token: (e2e - ttft) / (output_tokens - 1), in seconds."""
    if trial.output_tokens < 2:
        return None
    return (trial.e2e_s - trial.ttft_s) / (trial.output_tokens - 1)


def decode_tok_s(trial: Trial, batch: int) -> float | None:
    """Tokens a second over the whole batch while decoding: batch / tpot."""
    return _rate(batch, tpot_s(trial))


def prefill_tok_s(prefill_s: float | None, batch: int, prompt_tokens: int) -> float | None:
    """Prompt tokens a second over the whole batch: batch * prompt_tokens / prefill_s."""
    return _rate(batch * prompt_tokens, prefill_s)


def perplexity(nll_sum: float, tokens: int) -> float | None:
    """exp(nll_sum / tokens): per scored token, so it compares only between models with one tokenizer."""
    return _exp_of_ratio(nll_sum, tokens)


def word_perplexity(nll_sum: float, words: int) -> float | None:
    """exp(nll_sum / words): the same sum per word of the text, whatever the tokenizer."""
    return _exp_of_ratio(nll_sum, words)


def bits_per_byte(nll_sum: float, utf8_bytes: int) -> float | None:
    """nll_sum / (ln 2 * bytes): how far the model would compress the text."""
    return nll_sum / (math.log(2) * utf8_bytes) if utf8_bytes > 0 else None


def byte_perplexity(nll_sum: float, utf8_bytes: int) -> float | None:
    """exp(nll_sum / bytes): 2 to the power of the bits per byte."""
    return _exp_of_ratio(nll_sum, utf8_bytes)


def within_limit(change_percent: float | None, limit_percent: float = PPL_LIMIT_PERCENT) -> bool | None:
    """True when perplexity grew by less than the limit; a better one passes."""
    return None if change_percent is None else change_percent < limit_percent


def delta(value: float | None, baseline: float | None) -> float | None:
    """value - baseline."""
    return None if value is None or baseline is None else value - baseline


def percent_change(value: float | None, baseline: float | None) -> float | None:
    """100 * (value - baseline) / baseline."""
    change = delta(value, baseline)
    return None if change is None or not baseline else 100 * change / baseline


def ratio(value: float | None, baseline: float | None) -> float | None:
    """value / baseline; of two medians, never a mean of ratios."""
    return None if value is None or not baseline else value / baseline


def pareto_front(costs: Sequence[tuple[float, ...]]) -> tuple[int, ...]:
    """Positions of the points that no other point beats: no worse in every cost and better in at least one."""
    return tuple(index for index, point in enumerate(costs) if not any(_dominates(other, point) for other in costs))


def _dominates(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return one != other and all(a <= b for a, b in zip(one, other, strict=True))


def _rate(count: int, seconds: float | None) -> float | None:
    return None if seconds is None or seconds <= 0 else count / seconds


def _exp_of_ratio(nll_sum: float, count: int) -> float | None:
    # exp overflows a double above 709.78 nats: such a model has no finite perplexity to print.
    if count <= 0 or nll_sum / count > 709:
        return None
    return math.exp(nll_sum / count)
