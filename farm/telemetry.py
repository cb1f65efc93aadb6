"""From NVML's samples to the evidence of a record: pure, so that what makes a row suspect can be checked by hand.

The physics: a GPU slows its clock when it is too hot or draws too much power, and shares its time slices with any other
process. Neither shows in a stopwatch, except as a slow row; both show here.

    >>> sorted(slowdowns(0x4 | 0x1))            # GPU idle (0x1) is no slowdown
    ['sw_power_cap']

Bits of the clock-event reasons: nvml.h, `nvmlClocksEventReason*` (once `nvmlClocksThrottleReason*`).
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from farm.device_facts import Telemetry
from farm.stats import median

# 0x1 (GPU idle) and 0x2 (clocks set by an application) are left out: neither slows work that was asked for.
CLOCK_EVENTS = {
    0x4: "sw_power_cap",
    0x8: "hw_slowdown",
    0x10: "sync_boost",
    0x20: "sw_thermal_slowdown",
    0x40: "hw_thermal_slowdown",
    0x80: "hw_power_brake",
    0x100: "display_clock_setting",
    0x200: "board_limit",
    0x400: "reliability",
}
_NOT_TOLD = "this GPU or its driver does not tell"


@dataclass(frozen=True, slots=True)
class Sample:
    """What changes within milliseconds: read every few of them while a trial runs."""

    sm_clock_hz: float | None = None
    power_w: float | None = None
    clock_events: int | None = None


@dataclass(frozen=True, slots=True)
class Edge:
    """What changes slowly or is slow to read: before and after a trial. `foreign_bytes`: used memory that is not ours.

    `others` is None when it cannot be told, for instance when the process list hides this very process.
    """

    temperature_c: float | None = None
    others: int | None = None
    foreign_bytes: int | None = None


def slowdowns(events: int) -> frozenset[str]:
    """The names of a bit mask's slowdown reasons."""
    return frozenset(name for bit, name in CLOCK_EVENTS.items() if events & bit)


def others_listed(pids: Sequence[int] | None, own_pid: int) -> int | None:
    """How many other processes compute on the GPU. None when the list is not this process's view of the world.

    In a container the driver lists nothing, or the process ids of another namespace: a list without ourselves, who
    do use the GPU, proves nothing about others.
    """
    if pids is None or own_pid not in pids:
        return None
    return len(set(pids) - {own_pid})


def telemetry_of(samples: Sequence[Sample], edges: Sequence[Edge], idle_utilization: Sequence[float]) -> Telemetry:
    """Reduce everything seen beside the trials of one cell. Missing figures get a reason."""
    clocks = [sample.sm_clock_hz for sample in samples if sample.sm_clock_hz is not None]
    powers = [sample.power_w for sample in samples if sample.power_w is not None]
    telemetry = Telemetry(
        samples=len(samples),
        sm_clock_median_hz=median(clocks) if clocks else None,
        sm_clock_min_hz=min(clocks, default=None),
        temperature_max_c=max((e.temperature_c for e in edges if e.temperature_c is not None), default=None),
        power_median_w=median(powers) if powers else None,
        slowdown_reasons=_fractions([s.clock_events for s in samples if s.clock_events is not None]),
        other_processes=max((edge.others for edge in edges if edge.others is not None), default=None),
        other_utilization=max(idle_utilization, default=None),
        other_memory_growth_bytes=_growth([e.foreign_bytes for e in edges if e.foreign_bytes is not None]),
    )
    telemetry.reasons.update(_reasons(telemetry))
    if all(sample.clock_events is None for sample in samples):
        telemetry.reasons["slowdown_reasons"] = _NOT_TOLD
    return telemetry


def _fractions(masks: Sequence[int]) -> dict[str, float]:
    seen = Counter(name for mask in masks for name in sorted(slowdowns(mask)))
    return {name: count / len(masks) for name, count in sorted(seen.items())}


def _growth(foreign: Sequence[int]) -> int | None:
    """From the first edge to the highest one: a neighbour that came and went counts too."""
    return max(foreign) - foreign[0] if len(foreign) > 1 else None


def _reasons(telemetry: Telemetry) -> dict[str, str]:
    why = {
        "sm_clock_median_hz": _NOT_TOLD,
        "temperature_max_c": _NOT_TOLD,
        "power_median_w": _NOT_TOLD,
        "other_processes": "the driver's process list does not show this process: no telling who else is there",
        "other_utilization": "the GPU was not watched while idle, or does not tell its utilization",
        "other_memory_growth_bytes": _NOT_TOLD,
    }
    return {name: reason for name, reason in why.items() if getattr(telemetry, name) is None}
