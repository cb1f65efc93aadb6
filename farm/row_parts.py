"""The groups of figures a row is made of, each read off one part of a record.

Why apart from `farm.reduce`: what a memory or quality column means is decided here, once, for both kinds of rows.

    memory_figures(record, record.speed.memory).weights_bytes    # 269_029_440
"""

from collections.abc import Mapping
from dataclasses import replace

from farm import formulas
from farm.baseline import Lookup
from farm.catalog import CACHES
from farm.cells import QualityTask, SpeedTask
from farm.kv_cache import CacheTask, kv_bytes
from farm.model_ref import architecture_of
from farm.quantization import parse_quantization
from farm.records import Memory, QualityResult, Record, Status
from farm.rows import (
    AgreementFigures,
    DocumentFigures,
    Evidence,
    MemoryFigures,
    QualityFigures,
    SanityFigures,
    TrustFigures,
)
from farm.sanity import Sanity
from farm.stats import median
from farm.verdict import host_spread, judge, launch_share

DOCUMENT_PROTOCOL = "lm-eval"


def memory_figures(record: Record, memory: Memory) -> MemoryFigures:
    """Bytes by part; the reason is that of the device's peak, or the first one given."""
    task = record.cell.task
    cached = CacheTask.of(task) if isinstance(task, SpeedTask) else None
    return MemoryFigures(
        weights_bytes=memory.weights_bytes,
        kv_bytes=memory.kv_bytes,
        activation_peak_bytes=memory.activation_peak_bytes,
        peak_allocated_bytes=memory.peak_allocated_bytes,
        peak_reserved_bytes=memory.peak_reserved_bytes,
        device_used_delta_bytes=memory.device_used_delta_bytes,
        host_peak_rss_bytes=memory.host_peak_rss_bytes,
        kv_predicted_bytes=_predicted_kv(record, cached),
        kv_bytes_per_token=memory.kv_bytes / (cached.batch * cached.tokens) if cached and memory.kv_bytes else None,
        kv_host_bytes=memory.kv_host_bytes,
        memory_reason=memory.reasons.get("peak_allocated_bytes") or next(iter(memory.reasons.values()), None),
    )


def _predicted_kv(record: Record, cached: CacheTask | None) -> float | None:
    """None where the model's shape is not known."""
    architecture = record.architecture or architecture_of(record.cell.load.model)
    if cached is None or architecture is None:
        return None
    return kv_bytes(cached, architecture, _model_bits(record))


def _model_bits(record: Record) -> int:
    """What the model was seen to compute in; else what its precision keeps unquantized values in."""
    dtype = record.speed.effective.compute_dtype if record.speed else None
    widths = {"float32": 32, "float16": 16, "bfloat16": 16}
    return widths.get(dtype or "", parse_quantization(record.cell.load.quantization).other_bits)


def quality_figures(record: Record, lookup: Lookup) -> QualityFigures:
    """A quality row's own figures; on a speed row those of its load, through the same cache where that one loses
    something. A failed row claims none."""
    if record.status is not Status.OK:
        return QualityFigures()
    cell = record.cell
    mode = cell.task.cache_mode if cell.task.cache_mode and CACHES[cell.task.cache_mode].is_lossy else None
    headline = record if record.quality else lookup.quality_of(cell.load, None, mode)
    document = record if record.quality else lookup.quality_of(cell.load, DOCUMENT_PROTOCOL, mode)
    figures = _token_figures(headline, lookup)
    return replace(
        figures, document=_document_figures(document, lookup), agreement=_agreement_figures(headline, document)
    )


def _token_figures(owner: Record | None, lookup: Lookup) -> QualityFigures:
    if owner is None or owner.quality is None:
        return QualityFigures()
    quality, baseline = owner.quality, _baseline(owner, lookup)
    own = formulas.perplexity(quality.nll_sum, quality.tokens_scored)
    other = formulas.perplexity(baseline.nll_sum, baseline.tokens_scored) if baseline else None
    percent = formulas.percent_change(own, other)
    return QualityFigures(
        perplexity=own,
        perplexity_delta=formulas.delta(own, other),
        perplexity_delta_percent=percent,
        ppl_within_5_percent=formulas.within_limit(percent),
        bits_per_byte=formulas.bits_per_byte(quality.nll_sum, quality.utf8_bytes),
        word_perplexity=formulas.word_perplexity(quality.nll_sum, quality.words),
        perplexity_protocol=quality.protocol,
        perplexity_text=quality.text,
        perplexity_tokens=quality.tokens_scored,
    )


def _document_figures(owner: Record | None, lookup: Lookup) -> DocumentFigures:
    if owner is None or owner.quality is None or _protocol(owner) != DOCUMENT_PROTOCOL:
        return DocumentFigures()
    quality, baseline = owner.quality, _baseline(owner, lookup)
    own = formulas.word_perplexity(quality.nll_sum, quality.words)
    other = formulas.word_perplexity(baseline.nll_sum, baseline.words) if baseline else None
    return DocumentFigures(
        lm_eval_word_perplexity=own,
        lm_eval_word_perplexity_delta_percent=formulas.percent_change(own, other),
        lm_eval_bits_per_byte=formulas.bits_per_byte(quality.nll_sum, quality.utf8_bytes),
        lm_eval_protocol=quality.protocol,
        lm_eval_text=quality.text,
        lm_eval_tokens=quality.tokens_scored,
    )


def _agreement_figures(*owners: Record | None) -> AgreementFigures:
    """Of the first that compared logits; else the first one's reason why not."""
    results = [owner.quality for owner in owners if owner is not None and owner.quality is not None]
    found = next((result for result in results if result.kl_mean is not None), results[0] if results else None)
    if found is None:
        return AgreementFigures()
    return AgreementFigures(
        kl_mean=found.kl_mean,
        top1_agreement=found.top1_agreement,
        agreement_tokens=found.agreement_tokens,
        agreement_reference=found.reference,
        agreement_reason=found.reasons.get("kl_mean"),
    )


def _baseline(owner: Record, lookup: Lookup) -> QualityResult | None:
    """The same task on the baseline; a deleted or edited text file keeps its name, so only equal texts compare."""
    other = lookup.exactly_cached(owner.cell, lookup.baseline_of(owner.cell.load))
    if other is None or other.key == owner.key or other.quality is None or owner.quality is None:
        return None
    return other.quality if other.quality.text_sha256 == owner.quality.text_sha256 else None


def _protocol(record: Record) -> str | None:
    return record.cell.task.protocol if isinstance(record.cell.task, QualityTask) else None


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
        compute_dtype=effective.compute_dtype,
        requested_not_effective="; ".join(effective.mismatches) or None,
        quantization_details=_counted(effective.quantization) or None,
        kernels=_counted(effective.kernels) or None,
        compile_s=effective.compile_s,
        device_clock=record.speed.device_clock if record.speed else None,
    )


def sanity_figures(sanity: Sanity | None) -> SanityFigures:
    if sanity is None:
        return SanityFigures()
    return SanityFigures(sanity.ppl_ratio, sanity.layer_error, sanity.decode_gap, sanity.text)


def trust_figures(record: Record) -> TrustFigures:
    """The verdict on a measured speed row; a failed row is told by its status."""
    speed, task = record.speed, record.cell.task
    if speed is None or not isinstance(task, SpeedTask):
        return TrustFigures()
    verdict = judge(speed, task, record.disturbed)
    evidence = "; ".join(f"{finding.reason}: {finding.evidence}" for finding in verdict.findings)
    return TrustFigures(
        verdict=verdict.word,
        verdict_evidence=evidence or None,
        sets_measured_again=len(speed.earlier_trials),
        trials_set_aside=len(speed.set_aside),
        launch_share=launch_share(speed),
        host_spread=host_spread(speed),
        generate_e2e_s=median(speed.generate_e2e_s) if speed.generate_e2e_s else None,
    )


def _counted(counts: Mapping[str, object]) -> str:
    return " ".join(f"{name}:{counts[name]}" for name in sorted(counts))
