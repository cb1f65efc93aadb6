"""What `tests.perf.turbo_decode` finds out about one engine, and how it is told."""

from dataclasses import dataclass, field
from typing import Any

import torch

from farm.device_facts import DeviceLimits
from farm.stats import median
from jobs.turbo.profile import Breakdown
from tests.perf.turbo_watch import Phases, phase_lines


@dataclass(slots=True)
class Part:
    """One engine's figures; None where it did not get that far, `error` says why."""

    name: str
    load_s: float | None = None
    convert_s: float | None = None
    ready_s: float | None = None
    decode_tok_s: list[float] = field(default_factory=list)
    prefill_ms: list[float] = field(default_factory=list)
    phases: Phases | None = None
    step_bytes: int | None = None
    mbu: float | None = None
    weights_bytes: int | None = None
    load_peak_bytes: int | None = None
    peak_bytes: int | None = None
    effective: dict[str, Any] | None = None
    decode_profile: Breakdown | None = None
    prefill_profile: Breakdown | None = None
    wall_s: float | None = None
    error: str | None = None


def limits_line(device: str, limits: DeviceLimits | None) -> str:
    name = torch.cuda.get_device_name() if device == "cuda" else "CPU"
    if limits is None:
        return f"{name}: limits not measured (too little free memory)"
    return f"{name}: copy {limits.copy_bytes_per_s / 1e9:.0f} GB/s, {limits.gemm_flops / 1e12:.1f} TFLOP/s"


def lines(part: Part) -> str:
    figures = {
        "decode tok/s": _middle(part.decode_tok_s),
        "prefill ms": _middle(part.prefill_ms),
        "MBU": part.mbu,
        "ready s": part.ready_s,
        "convert s": part.convert_s,
        "load s": part.load_s,
        "weights GB": _gb(part.weights_bytes),
        "load peak GB": _gb(part.load_peak_bytes),
        "peak GB": _gb(part.peak_bytes),
        "wall s": part.wall_s,
    }
    head = "  ".join(f"{name} {'-' if value is None else f'{value:.3g}'}" for name, value in figures.items())
    error = [f"    failed: {part.error}"] if part.error else []
    steps = [*_breakdown("decode step", part.decode_profile), *_breakdown("prefill", part.prefill_profile)]
    phases = phase_lines(part.phases) if part.phases else []
    return "\n".join([f"{part.name:15} {head}", *error, *phases, *steps])


def _gb(size: int | None) -> float | None:
    return None if size is None else size / 1e9


def _middle(values: list[float]) -> float | None:
    return median(values) if values else None


def _breakdown(what: str, found: Breakdown | None) -> list[str]:
    if found is None:
        return []
    head = f"    {what}: {found.span_us:.0f} us on the device, {found.idle_us:.0f} idle, {found.calls} kernels"
    return [head, *(f"    {kernel.total_us:9.1f} us {kernel.calls:5} x {kernel.name[:90]}" for kernel in found.kernels)]
