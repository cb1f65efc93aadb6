"""Quality: one sum of negative log-likelihoods by a named protocol, and the agreement with the 16-bit model.

From the sum come token perplexity exp(nll / tokens), word perplexity exp(nll / words) and bits per byte, so all
protocols share the scoring here; they differ in what is fed (`jobs.protocols`).

    result = measure_quality(engine, QualityTask("gptq", text_ref, window_tokens=2048, max_tokens=None))
"""

import math
from collections.abc import Callable, Sequence

from farm.cells import QualityTask
from farm.errors import Unsupported
from farm.records import QualityResult
from jobs.agreement import measure_agreement
from jobs.corpus import QualityError, load_text
from jobs.engines.base import Engine, Scorer
from jobs.protocols import Sample, sample_of
from jobs.windows import Window, batches

__all__ = ["QualityError", "measure_quality", "nll_sum"]


def measure_quality(engine: Engine, task: QualityTask, max_batch: int = 1) -> QualityResult:
    """Score a text. Raises QualityError for a sum that is not finite, ModelUnavailable when the text cannot be had."""
    text = load_text(task.text, task.protocol)
    sample = sample_of(engine.tokenizer, task, text)
    _check_sample(sample, engine, text.name)
    scorer = _scorer(engine, task.cache_mode)
    nll = nll_sum(scorer, sample.windows, max_batch)
    agreement = measure_agreement(engine, sample.windows, task.agreement_tokens, scorer)
    return QualityResult(
        protocol=task.protocol_id,
        text=text.name,
        text_sha256=text.sha256,
        nll_sum=nll,
        tokens_scored=sample.tokens,
        words=sample.words,
        utf8_bytes=sample.utf8_bytes,
        effective=engine.effective(task.cache_mode),
        kl_mean=agreement.kl_mean,
        top1_agreement=agreement.top1,
        agreement_tokens=agreement.tokens,
        reference=agreement.reference,
        reasons=agreement.reasons,
    )


def _scorer(engine: Engine, cache_mode: str | None) -> Scorer:
    """Without a cache mode the engine itself."""
    if cache_mode is None:
        return engine
    through: Callable[[str], Scorer] | None = getattr(engine, "through_cache", None)
    if through is None:
        raise Unsupported("this engine cannot score a text through a cache; measure that with engine eager")
    return through(cache_mode)


def nll_sum(engine: Scorer, windows: Sequence[Window], max_batch: int = 1) -> float:
    """In nats, exactly rounded: thousands of small terms added in turn would lose the last digits."""
    total = math.fsum(score for batch in batches(windows, max_batch) for score in _scores(engine, batch))
    if not math.isfinite(total):
        raise QualityError("the negative log-likelihood is not finite: this precision overflows or the weights are bad")
    return total


def _scores(engine: Scorer, batch: Sequence[Window]) -> list[float]:
    rows = engine.token_nll([window.tokens for window in batch])
    for window, row in zip(batch, rows, strict=True):
        if len(row) != len(window.tokens) - 1:
            raise QualityError(f"the engine scored {len(row)} tokens of {len(window.tokens) - 1}")
    return [score for window, row in zip(batch, rows, strict=True) for score in row[-window.scored :]]


def _check_sample(sample: Sample, engine: Engine, name: str) -> None:
    if sample.tokens == 0:
        raise QualityError(f"{name} is too short: it has no token to score")
    fed = max(len(window.tokens) for window in sample.windows) - 1
    if fed > engine.max_positions:
        raise Unsupported(
            f"windows of {fed} tokens exceed the model's {engine.max_positions} positions; lower quality.window_tokens"
        )
