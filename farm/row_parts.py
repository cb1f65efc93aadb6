"""The groups of figures a row is made of, each read off one part of a record.

Why apart from `farm.reduce`: what a memory or quality column means is decided here, once, for both kinds of rows.

    memory_figures(record.speed.memory).weights_bytes    # 269_029_440
"""

from farm import formulas
from farm.baseline import Lookup
from farm.records import Memory, QualityResult, Record, Status
from farm.rows import Evidence, MemoryFigures, QualityFigures


def memory_figures(memory: Memory) -> MemoryFigures:
    """Bytes by part; the reason is that of the device's peak, or the first one given."""
    return MemoryFigures(
        weights_bytes=memory.weights_bytes,
        kv_bytes=memory.kv_bytes,
        activation_peak_bytes=memory.activation_peak_bytes,
        peak_allocated_bytes=memory.peak_allocated_bytes,
        peak_reserved_bytes=memory.peak_reserved_bytes,
        device_used_delta_bytes=memory.device_used_delta_bytes,
        host_peak_rss_bytes=memory.host_peak_rss_bytes,
        memory_reason=memory.reasons.get("peak_allocated_bytes") or next(iter(memory.reasons.values()), None),
    )


def quality_figures(record: Record, lookup: Lookup) -> QualityFigures:
    """Of the record itself, or of the quality cell that ran on the same load; a failed row claims none."""
    owner = record if record.quality else lookup.quality_of(record.cell.load)
    if record.status is not Status.OK or owner is None or owner.quality is None:
        return QualityFigures()
    load = lookup.baseline_of(owner.cell.load)
    baseline = None if load == owner.cell.load else lookup.with_load(owner.cell, load)
    return _compared(owner.quality, baseline.quality if baseline else None)


def _compared(quality: QualityResult, baseline: QualityResult | None) -> QualityFigures:
    # A deleted or edited text file keeps its name: only equal texts compare.
    if baseline and baseline.text_sha256 != quality.text_sha256:
        baseline = None
    own = formulas.perplexity(quality.nll_sum, quality.tokens_scored)
    other = formulas.perplexity(baseline.nll_sum, baseline.tokens_scored) if baseline else None
    return QualityFigures(
        perplexity=own,
        perplexity_delta=formulas.delta(own, other),
        perplexity_delta_percent=formulas.percent_change(own, other),
        bits_per_byte=formulas.bits_per_byte(quality.nll_sum, quality.utf8_bytes),
        word_perplexity=formulas.word_perplexity(quality.nll_sum, quality.words),
        perplexity_protocol=quality.protocol,
        perplexity_text=quality.text,
        perplexity_tokens=quality.tokens_scored,
    )


def evidence_of(record: Record) -> Evidence:
    """What really ran, as text a table can show."""
    measured = record.speed or record.quality
    if measured is None:
        return Evidence()
    effective = measured.effective
    return Evidence(
        attention=effective.attention,
        cache_class=effective.cache_class,
        linear_classes=_counted(effective.linear_classes),
        parameter_dtypes=_counted(effective.parameter_dtypes),
        compiled=effective.compiled,
        device_clock=record.speed.device_clock if record.speed else None,
    )


def _counted(counts: dict[str, int]) -> str:
    return " ".join(f"{name}:{counts[name]}" for name in sorted(counts))
