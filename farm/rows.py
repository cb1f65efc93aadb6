"""Rows: what a record says once it is reduced, one row a trial and one row a cell.

Why two kinds: statistics need every repetition (`TrialRow`, results.csv), tables and figures need one line a
configuration (`CellRow`, cells.csv). Both begin with the same identity. A field is None where nothing was measured.

    columns(CellRow)[:4]    # ('key', 'kind', 'model', 'model_id')
    values(row)             # the same order, nested groups laid out flat

A group of figures is flattened without a prefix; a `Summary` takes its field's name: `ttft_s_median`, `ttft_s_ci_low`.
"""

import functools
import typing
from collections.abc import Iterator
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any

from farm.device_rows import EnergyFigures, RooflineFigures, TelemetryFigures
from farm.records import Status
from farm.stats import Summary


@dataclass(frozen=True, slots=True)
class Identity:
    """Which cell a row is about and how it ended. `model_id` tells apart what `model` (for people) may not."""

    key: str
    kind: str
    model: str
    model_id: str
    quantization: str
    engine: str
    device: str
    device_name: str | None
    cache_mode: str | None
    context_tokens: int | None
    batch_size: int | None
    new_tokens: int | None
    prompt_kinds: str | None
    prompt_languages: str | None
    seed: int | None
    protocol: str | None
    status: Status
    reason: str | None

    @property
    def is_ok(self) -> bool:
        return self.status is Status.OK

    @property
    def subject(self) -> tuple[str, str, str, str | None]:
        """Model, engine and device: figures compare within one of these."""
        return self.model_id, self.engine, self.device, self.device_name

    @property
    def has_true_weights(self) -> bool:
        """False for random weights and fakes: their perplexity means nothing."""
        return not self.model_id.startswith(("random:", "fake:"))


@dataclass(frozen=True, slots=True)
class MemoryFigures:
    """Bytes by part; `memory_reason` says why the device's share is missing.

    `kv_bytes` as measured and as predicted from the model's shape; `kv_bytes_per_token` of one sequence that is kept.
    """

    weights_bytes: int | None = None
    kv_bytes: int | None = None
    activation_peak_bytes: int | None = None
    peak_allocated_bytes: int | None = None
    peak_reserved_bytes: int | None = None
    device_used_delta_bytes: int | None = None
    host_peak_rss_bytes: int | None = None
    kv_predicted_bytes: float | None = None
    kv_bytes_per_token: float | None = None
    kv_host_bytes: int | None = None
    memory_reason: str | None = None


@dataclass(frozen=True, slots=True)
class DocumentFigures:
    """The `lm-eval` protocol: per word and per byte of the original pages, so that tokenizers compare, too."""

    lm_eval_word_perplexity: float | None = None
    lm_eval_word_perplexity_delta_percent: float | None = None
    lm_eval_bits_per_byte: float | None = None
    lm_eval_protocol: str | None = None
    lm_eval_text: str | None = None
    lm_eval_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class AgreementFigures:
    """Logits against those of the reference (16 bit; on the CPU 32 bit) of the same weights; KL in nats a token."""

    kl_mean: float | None = None
    top1_agreement: float | None = None
    agreement_tokens: int | None = None
    agreement_reference: str | None = None
    agreement_reason: str | None = None


@dataclass(frozen=True, slots=True)
class QualityFigures:
    """Token perplexity of the same load, and its distance from the baseline's on the same text.

    On a speed row it is that of the sweep's headline protocol (`gptq` when there is one); on a quality row its own.
    """

    perplexity: float | None = None
    perplexity_delta: float | None = None
    perplexity_delta_percent: float | None = None
    ppl_within_5_percent: bool | None = None
    bits_per_byte: float | None = None
    word_perplexity: float | None = None
    perplexity_protocol: str | None = None
    perplexity_text: str | None = None
    perplexity_tokens: int | None = None
    document: DocumentFigures = DocumentFigures()
    agreement: AgreementFigures = AgreementFigures()


@dataclass(frozen=True, slots=True)
class Evidence:
    """What really ran. Classes and dtypes read `Linear4bit:224 Linear:1`, details `bits:4 group_size:64`."""

    attention: str | None = None
    cache_class: str | None = None
    linear_classes: str | None = None
    parameter_dtypes: str | None = None
    compiled: bool | None = None
    compute_dtype: str | None = None
    requested_not_effective: str | None = None
    quantization_details: str | None = None
    kernels: str | None = None
    compile_s: float | None = None
    device_clock: str | None = None


@dataclass(frozen=True, slots=True)
class SanityFigures:
    """What the gate saw of the loaded model before anything was timed (farm.sanity)."""

    sanity_ppl_ratio: float | None = None
    sanity_layer_error: float | None = None
    sanity_decode_gap: float | None = None
    sanity_text: str | None = None


@dataclass(frozen=True, slots=True)
class TrustFigures:
    """May the row be trusted (farm.verdict), on what evidence, and what `generate()` makes of the same work."""

    verdict: str | None = None
    verdict_evidence: str | None = None
    sets_measured_again: int | None = None
    trials_set_aside: int | None = None
    launch_share: float | None = None
    host_spread: float | None = None
    generate_e2e_s: float | None = None

    @property
    def distrust(self) -> str:
        """The verdict without its notes: `valid`, reasons joined by `+`, or nothing where none was given."""
        return (self.verdict or "").split(" (")[0]


@dataclass(frozen=True, slots=True)
class TrialRow(Identity):
    """One timed repetition; a cell without any has one row with every figure empty."""

    trial: int | None = None
    verdict: str | None = None
    output_tokens: int | None = None
    ttft_s: float | None = None
    prefill_s: float | None = None
    decode_s: float | None = None
    decode_device_s: float | None = None
    e2e_s: float | None = None
    tpot_s: float | None = None
    decode_tok_s: float | None = None
    prefill_tok_s: float | None = None
    memory: MemoryFigures = MemoryFigures()
    quality: QualityFigures = QualityFigures()


@dataclass(frozen=True, slots=True)
class CellRow(Identity):
    """One cell, reduced. Ratios are of medians; `speedup_vs_baseline` is None for the baseline itself. A ratio is worth
    no more than the worse of its two rows: its verdict is `valid`, or what speaks against either."""

    attempt: int = 0
    trust: TrustFigures = TrustFigures()
    load_s: float | None = None
    baseline_quantization: str | None = None
    speedup_vs_baseline: float | None = None
    speedup_verdict: str | None = None
    cache_speedup: float | None = None
    cache_speedup_verdict: str | None = None
    decode_tok_s: Summary | None = None
    prefill_tok_s: Summary | None = None
    ttft_s: Summary | None = None
    prefill_s: Summary | None = None
    tpot_s: Summary | None = None
    e2e_s: Summary | None = None
    itl_p50_s: float | None = None
    itl_p90_s: float | None = None
    itl_p99_s: float | None = None
    memory: MemoryFigures = MemoryFigures()
    quality: QualityFigures = QualityFigures()
    evidence: Evidence = Evidence()
    sanity: SanityFigures = SanityFigures()
    roofline: RooflineFigures = field(default_factory=RooflineFigures)
    telemetry: TelemetryFigures = field(default_factory=TelemetryFigures)
    energy: EnergyFigures = field(default_factory=EnergyFigures)


def columns(row_type: type[Identity]) -> tuple[str, ...]:
    """Flat column names in the order of the fields."""
    return tuple(_names(row_type))


def values(row: Identity) -> tuple[Any, ...]:
    """The row's values in the order of `columns(type(row))`."""
    return tuple(_flat(row, type(row)))


def _names(node: Any, prefix: str = "") -> Iterator[str]:
    for name, kind in _fields(node):
        if kind is None:
            yield prefix + name
        else:
            yield from _names(kind, f"{name}_" if kind is Summary else "")


def _flat(value: Any, node: Any) -> Iterator[Any]:
    for name, kind in _fields(node):
        item = None if value is None else getattr(value, name)
        if kind is None:
            yield item
        else:
            yield from _flat(item, kind)


@functools.cache
def _fields(node: Any) -> tuple[tuple[str, Any], ...]:
    """Each field's name, and its dataclass when it is a group (also an optional one)."""
    hints = typing.get_type_hints(node)
    return tuple((item.name, _group(hints[item.name])) for item in fields(node))


def _group(hint: Any) -> Any:
    return next((option for option in (hint, *typing.get_args(hint)) if is_dataclass(option)), None)
