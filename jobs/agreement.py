"""What quantization changed, token by token: the logits against those of the 16-bit model of the same weights.

Why beside perplexity: a model may guess this text as well as before and still have become another model. The
reference is loaded next to the measured model once its perplexity is known, one window at a time goes through both,
and it is let go again. It is an extra: where it does not fit or cannot be loaded, the row keeps its perplexity and
says why the rest is missing.

    agreement = measure_agreement(engine, windows, tokens=4096)
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from farm.errors import Unsupported
from jobs.engines.base import Engine, Reference, Scorer
from jobs.failures import classify
from jobs.windows import Window, first_scored

HEADROOM_BYTES = 2 << 30  # logits of both models for one window of 2,048 tokens and 128k words, slices, workspaces


@dataclass(frozen=True, slots=True)
class Agreement:
    """Means over `tokens` tokens; `reasons` says why there are none."""

    kl_mean: float | None = None
    top1: float | None = None
    tokens: int | None = None
    reference: str | None = None
    reasons: dict[str, str] = field(default_factory=dict)


def measure_agreement(
    engine: Engine, windows: Sequence[Window], tokens: int, scorer: Scorer | None = None
) -> Agreement:
    """Compare on the first `tokens` scored tokens. Never raises: a failure is an answer with its reason.

    `scorer`: what gives the engine's logits, through a cache for example; the reference's are those of a plain forward.
    """
    scorer = scorer or engine
    reference = engine.reference
    if reference is None:
        return _none(None, "this engine names no reference model")
    if reference.open is None and scorer is engine:
        return _none(reference, "this is the reference")
    if tokens == 0:
        return _none(reference, "quality.agreement_tokens is 0")
    try:
        found = _compared(engine, scorer, reference, tuple(first_scored(windows, tokens)))
    except Exception as error:  # the perplexity is measured and good: whatever happens here must not lose it
        found = _none(reference, classify(error)[1].message)
    _let_go(reference)  # not before: the error's traceback held the reference model
    return found


def why_no_room(needed_bytes: int | None, free_bytes: int) -> str | None:
    """One sentence when the reference would not fit beside what is loaded; None when it does or nobody knows."""
    wanted = None if needed_bytes is None else needed_bytes + HEADROOM_BYTES
    if wanted is None or wanted <= free_bytes:
        return None
    return f"the reference needs about {wanted / 1e9:.1f} GB beside this model, and {free_bytes / 1e9:.1f} GB are free"


def _compared(engine: Engine, scorer: Scorer, reference: Reference, windows: Sequence[Window]) -> Agreement:
    _let_go(reference)  # what scoring left in the allocator is free for the reference
    other = engine if reference.open is None else _opened(reference)
    pairs = [_compare(scorer, other, window) for window in windows]
    tokens = sum(window.scored for window in windows)
    kl_mean = math.fsum(kl for kl, _ in pairs) / tokens
    if not math.isfinite(kl_mean):
        return _none(reference, f"the divergence is not finite: this model or {reference.name} overflows")
    return Agreement(kl_mean, sum(same for _, same in pairs) / tokens, tokens, reference.name)


def _opened(reference: Reference) -> Scorer:
    assert reference.open is not None
    _require_room(reference)
    return reference.open()


def _compare(engine: Scorer, other: Scorer, window: Window) -> tuple[float, int]:
    """Only where a token is scored: elsewhere a window repeats what the one before it said."""
    from jobs.logits import compare_logits  # torch: seconds of import that a fake group does not need

    fed = [window.tokens[:-1]]
    return compare_logits(other.logits(fed)[0, -window.scored :], engine.logits(fed)[0, -window.scored :])


def _require_room(reference: Reference) -> None:
    """Asked first, because an allocation that fails leaves a device behind that nobody should go on timing on."""
    from jobs.memory import free_bytes

    reason = why_no_room(reference.needed_bytes, free_bytes(reference.device))
    if reason is not None:
        raise Unsupported(reason)


def _let_go(reference: Reference) -> None:
    from jobs.memory import release_unused

    release_unused(reference.device)


def _none(reference: Reference | None, reason: str) -> Agreement:
    return Agreement(reference=reference.name if reference else None, reasons={"kl_mean": reason})
