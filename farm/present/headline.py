"""The mission's four figures a precision: decode speed, memory, prefill time and perplexity, each with its reason.

Why reasons: a null says nothing. The figure may be missing because nobody asked for it, because the device cannot
tell, or because the cell ran out of memory, and these lead to different next steps.

    headline_of(rows, "int8").figures.tokens_s_2048    # 11.3

All speed figures are those of the cell with 2048 prompt tokens, batch 1 and the KV cache on. GB are 1e9 bytes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from farm import catalog
from farm.rows import CellRow
from farm.stats import Summary

REPORT_KEYS = ("fp16", "bf16", "int8", "4bit")
HEADLINE_CONTEXT = 2048
NOT_IN_SWEEP = "not in the sweep"
NO_CELL = "no 2048-token cell (batch 1, cache on) in this sweep"
RANDOM_WEIGHTS = "perplexity of random weights means nothing"

Interval = tuple[float, float] | None


@dataclass(frozen=True, slots=True)
class Figures:
    """The mission's names, exactly."""

    tokens_s_2048: float | None = None
    vram_gb: float | None = None
    prefill_ms: float | None = None
    ppl: float | None = None


@dataclass(frozen=True, slots=True)
class Reasons:
    """Why each figure is missing; None where it is there."""

    tokens_s_2048: str | None = None
    vram_gb: str | None = None
    prefill_ms: str | None = None
    ppl: str | None = None


@dataclass(frozen=True, slots=True)
class Intervals:
    """95 % intervals of the two medians."""

    tokens_s_2048: Interval = None
    prefill_ms: Interval = None


@dataclass(frozen=True, slots=True)
class Quality:
    """What the precision costs in answers, against the 16-bit row: the mission's 5 % rule and beyond."""

    ppl_delta_percent: float | None = None
    ppl_within_5_percent: bool | None = None
    bits_per_byte: float | None = None
    lm_eval_word_perplexity: float | None = None
    kl_mean: float | None = None
    top1_agreement: float | None = None


@dataclass(frozen=True, slots=True)
class Sources:
    """Which precision and which cells (short keys) the figures come from.

    With several perplexity protocols in the sweep, the first of `catalog.QUALITY_PROTOCOLS` is the headline.
    """

    quantization: str | None = None
    speed: str | None = None
    quality: str | None = None
    text: str | None = None
    protocol: str | None = None
    verdict: str | None = None


@dataclass(frozen=True, slots=True)
class Headline:
    """Everything that the report says about one of the mission's keys."""

    figures: Figures
    reasons: Reasons
    ci: Intervals
    sources: Sources
    quality: Quality = Quality()


def headline_of(rows: Sequence[CellRow], report_key: str) -> Headline:
    """One key for one model, engine and device (`rows` are all of theirs)."""
    return headline_of_quantization(rows, _quantization(rows, report_key))


def headline_of_quantization(rows: Sequence[CellRow], name: str | None) -> Headline:
    """The same for one entry of the quantization axis: a key of the mission stands for several."""
    own = [row for row in rows if row.quantization == name]
    if not own:
        reasons = Reasons(NOT_IN_SWEEP, NOT_IN_SWEEP, NOT_IN_SWEEP, NOT_IN_SWEEP)
        return Headline(Figures(), reasons, Intervals(), Sources())
    speed = next((row for row in own if is_headline_cell(row)), None)
    quality = next((row for row in own if row.kind == "quality" and row.cache_mode is None), None)
    figures = _figures(speed, quality)
    sources = Sources(
        quantization=name,
        speed=speed.key if speed else None,
        quality=quality.key if quality else None,
        text=quality.quality.perplexity_text if quality else None,
        protocol=quality.protocol if quality else None,
        verdict=speed.trust.verdict if speed else None,
    )
    reasons = _reasons(figures, speed, quality, own[0])
    return Headline(figures, reasons, _intervals(speed), sources, _quality(quality))


def is_headline_cell(row: CellRow) -> bool:
    """True for the one cell a precision that the mission's speed figures are about."""
    return (row.kind, row.context_tokens, row.batch_size, row.cache_mode) == ("speed", HEADLINE_CONTEXT, 1, "on")


def _quantization(rows: Sequence[CellRow], report_key: str) -> str | None:
    """The precision for a key: the first one with a measured headline cell, else the first one in the sweep."""
    names = [name for name, precision in catalog.PRECISIONS.items() if precision.report_key == report_key]
    measured = dict.fromkeys(row.quantization for row in rows if row.is_ok and is_headline_cell(row))
    present = dict.fromkeys(row.quantization for row in rows)
    for found in (measured, present):
        candidates = [one for name in names for one in found if one.partition("?")[0] == name]
        if candidates:
            return candidates[0]
    return None


def _figures(speed: CellRow | None, quality: CellRow | None) -> Figures:
    """Of rows that are ok only: an invalid one may hold figures that nobody should quote."""
    speed, quality = _ok(speed), _ok(quality)
    peak = speed.memory.peak_allocated_bytes if speed else None
    return Figures(
        tokens_s_2048=speed.decode_tok_s.median if speed and speed.decode_tok_s else None,
        vram_gb=None if peak is None else peak / 1e9,
        prefill_ms=speed.prefill_s.median * 1000 if speed and speed.prefill_s else None,
        ppl=quality.quality.perplexity if quality and quality.has_true_weights else None,
    )


def _quality(row: CellRow | None) -> Quality:
    if row is None or not row.has_true_weights:
        return Quality()
    found = row.quality
    return Quality(
        ppl_delta_percent=found.perplexity_delta_percent,
        ppl_within_5_percent=found.ppl_within_5_percent,
        bits_per_byte=found.bits_per_byte,
        lm_eval_word_perplexity=found.document.lm_eval_word_perplexity,
        kl_mean=found.agreement.kl_mean,
        top1_agreement=found.agreement.top1_agreement,
    )


def _reasons(figures: Figures, speed: CellRow | None, quality: CellRow | None, any_row: CellRow) -> Reasons:
    no_speed = NO_CELL if speed is None else _failure(speed) or "no token after the first one was timed"
    no_prefill = NO_CELL if speed is None else _failure(speed) or "no trial was recorded"
    return Reasons(
        tokens_s_2048=None if figures.tokens_s_2048 is not None else no_speed,
        vram_gb=None if figures.vram_gb is not None else _no_memory(speed),
        prefill_ms=None if figures.prefill_ms is not None else no_prefill,
        ppl=None if figures.ppl is not None else _no_perplexity(quality, any_row),
    )


def _no_memory(speed: CellRow | None) -> str:
    if speed is None:
        return NO_CELL
    unknown = "no device allocator on the CPU" if speed.device == "cpu" else "the device's peak was not recorded"
    return _failure(speed) or speed.memory.memory_reason or unknown


def _no_perplexity(quality: CellRow | None, any_row: CellRow) -> str:
    if not any_row.has_true_weights:
        return RANDOM_WEIGHTS
    if quality is None:
        return "no perplexity cell in this sweep"
    return _failure(quality) or "the perplexity is not finite"


def _failure(row: CellRow) -> str | None:
    return None if row.is_ok else f"{row.status.value}: {row.reason or 'no message'}"


def _ok(row: CellRow | None) -> CellRow | None:
    return row if row is not None and row.is_ok else None


def _intervals(speed: CellRow | None) -> Intervals:
    if speed is None or not speed.is_ok:
        return Intervals()
    return Intervals(_interval(speed.decode_tok_s, 1.0), _interval(speed.prefill_s, 1000.0))


def _interval(summary: Summary | None, scale: float) -> Interval:
    if summary is None or summary.ci_low is None or summary.ci_high is None:
        return None
    return summary.ci_low * scale, summary.ci_high * scale
