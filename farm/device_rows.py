"""The columns that come from the device: distance to its roof, its state during the trials, the energy it took.

Why apart from `farm.rows`: these three groups are evidence beside the times, each read off one part of a record. A
column is None where nothing was measured; the group's `..._reason` column says why.

    roofline_figures(record).mbu_decode      # 0.76: of the measured bandwidth
"""

from collections.abc import Mapping
from dataclasses import dataclass

from farm.catalog import CACHES
from farm.cells import SpeedTask
from farm.device_facts import DeviceLimits, Energy, Telemetry
from farm.formulas import tpot_s
from farm.kv_cache import stored_bits
from farm.model_ref import architecture_of
from farm.quantization import parse_quantization
from farm.records import Record, SpeedResult
from farm.roofline import Shape, Work, bound, decode_work, distance, limit_s, mbu, mfu, prefill_work
from farm.stats import median


@dataclass(frozen=True, slots=True)
class RooflineFigures:
    """Fractions of the measured roof (0-1), the limits themselves, and how many times slower than them it was."""

    mbu_decode: float | None = None
    mfu_prefill: float | None = None
    decode_limit_tok_s: float | None = None
    prefill_limit_s: float | None = None
    decode_times_limit: float | None = None
    prefill_times_limit: float | None = None
    bound_decode: str | None = None
    bound_prefill: str | None = None
    copy_bytes_per_s: float | None = None
    gemm_flops: float | None = None
    gemm_dtype: str | None = None
    roofline_reason: str | None = None


@dataclass(frozen=True, slots=True)
class TelemetryFigures:
    """The device beside the trials. `slowdown_reasons` reads `sw_power_cap:0.25`, or `none` when it was watched."""

    telemetry_samples: int | None = None
    sm_clock_median_hz: float | None = None
    sm_clock_min_hz: float | None = None
    temperature_max_c: float | None = None
    power_median_w: float | None = None
    slowdown_reasons: str | None = None
    other_processes: int | None = None
    other_utilization: float | None = None
    other_memory_growth_bytes: int | None = None
    telemetry_reason: str | None = None


@dataclass(frozen=True, slots=True)
class EnergyFigures:
    """Joules per token by phase: of the counter, of the counter less idle power, of polled power."""

    idle_power_w: float | None = None
    j_per_prompt_token: float | None = None
    j_per_generated_token: float | None = None
    j_per_prompt_token_above_idle: float | None = None
    j_per_generated_token_above_idle: float | None = None
    polled_j_per_prompt_token: float | None = None
    polled_j_per_generated_token: float | None = None
    energy_reason: str | None = None


def roofline_figures(record: Record) -> RooflineFigures:
    """Of a measured speed cell whose model's shape and whose device's roof are known."""
    task, speed, limits = record.cell.task, record.speed, record.limits
    if speed is None or not isinstance(task, SpeedTask):
        return RooflineFigures()
    if limits is None:
        return RooflineFigures(roofline_reason="the device's limits were not measured")
    phases = phases_of(record)
    if phases is None:
        return _device_only(limits, "the model's shape is not known, or not one that is counted here")
    return _roofline(phases, limits, task.batch_size)


def _device_only(limits: DeviceLimits, reason: str) -> RooflineFigures:
    return RooflineFigures(
        copy_bytes_per_s=limits.copy_bytes_per_s,
        gemm_flops=limits.gemm_flops,
        gemm_dtype=limits.gemm_dtype,
        roofline_reason=reason,
    )


@dataclass(frozen=True, slots=True)
class Phases:
    """What both phases of a measured cell had to do, and the median seconds that each took; None where untimed."""

    prefill: Work
    decode: Work | None
    prefill_s: float | None
    step_s: float | None


def phases_of(record: Record) -> Phases | None:
    """Of a measured speed cell whose model's shape is known."""
    task, speed = record.cell.task, record.speed
    architecture = record.architecture or architecture_of(record.cell.load.model)
    if speed is None or not isinstance(task, SpeedTask) or architecture is None:
        return None
    mode = CACHES[task.cache_mode]
    kept = mode.bits != 0
    widths = parse_quantization(record.cell.load.quantization)
    shape = Shape(task.batch_size, task.context_tokens, task.new_tokens, kept, stored_bits(mode, widths.other_bits))
    counted = (architecture, widths, shape, speed.memory.weights_bytes)
    prefill_s = median([trial.prefill_s for trial in speed.trials]) if speed.trials else None
    return Phases(prefill_work(*counted), decode_work(*counted), prefill_s, _median_step(speed))


def _roofline(phases: Phases, limits: DeviceLimits, batch: int) -> RooflineFigures:
    prefill, decode, prefill_s, step_s = phases.prefill, phases.decode, phases.prefill_s, phases.step_s
    return RooflineFigures(
        mbu_decode=mbu(decode, step_s, limits) if decode and step_s else None,
        mfu_prefill=mfu(prefill, prefill_s, limits) if prefill_s else None,
        decode_limit_tok_s=_limit_tok_s(decode, limits, batch),
        prefill_limit_s=limit_s(prefill, limits),
        decode_times_limit=distance(decode, step_s, limits) if decode and step_s else None,
        prefill_times_limit=distance(prefill, prefill_s, limits) if prefill_s else None,
        bound_decode=bound(decode, limits) if decode else None,
        bound_prefill=bound(prefill, limits),
        copy_bytes_per_s=limits.copy_bytes_per_s,
        gemm_flops=limits.gemm_flops,
        gemm_dtype=limits.gemm_dtype,
    )


def _limit_tok_s(decode: Work | None, limits: DeviceLimits, batch: int) -> float | None:
    return batch / limit_s(decode, limits) if decode else None


def _median_step(speed: SpeedResult) -> float | None:
    steps = [step for step in map(tpot_s, speed.trials) if step is not None]
    return median(steps) if steps else None


def telemetry_figures(telemetry: Telemetry | None) -> TelemetryFigures:
    if telemetry is None:
        return TelemetryFigures()
    return TelemetryFigures(
        telemetry_samples=telemetry.samples,
        sm_clock_median_hz=telemetry.sm_clock_median_hz,
        sm_clock_min_hz=telemetry.sm_clock_min_hz,
        temperature_max_c=telemetry.temperature_max_c,
        power_median_w=telemetry.power_median_w,
        slowdown_reasons=_slowdowns(telemetry),
        other_processes=telemetry.other_processes,
        other_utilization=telemetry.other_utilization,
        other_memory_growth_bytes=telemetry.other_memory_growth_bytes,
        telemetry_reason=_first(telemetry.reasons),
    )


def _slowdowns(telemetry: Telemetry) -> str | None:
    """An empty field means unknown, so "watched, and none seen" needs a word of its own."""
    if not telemetry.samples or "slowdown_reasons" in telemetry.reasons:
        return None
    return " ".join(f"{name}:{share:.3g}" for name, share in sorted(telemetry.slowdown_reasons.items())) or "none"


def energy_figures(energy: Energy | None) -> EnergyFigures:
    if energy is None:
        return EnergyFigures()
    return EnergyFigures(
        idle_power_w=energy.idle_power_w,
        j_per_prompt_token=energy.j_per_prompt_token,
        j_per_generated_token=energy.j_per_generated_token,
        j_per_prompt_token_above_idle=energy.j_per_prompt_token_above_idle,
        j_per_generated_token_above_idle=energy.j_per_generated_token_above_idle,
        polled_j_per_prompt_token=energy.polled_j_per_prompt_token,
        polled_j_per_generated_token=energy.polled_j_per_generated_token,
        energy_reason=_first(energy.reasons),
    )


def _first(reasons: Mapping[str, str]) -> str | None:
    return next((f"{name}: {reason}" for name, reason in sorted(reasons.items())), None)
