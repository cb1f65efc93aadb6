"""What the device itself says: its roof, its state during the timed trials, the energy it took. Part of a record.

Why apart from `farm.records`: these are evidence beside the times, each optional; a record without any is still whole.
Missing is `None` with the reason in `reasons`. Units: bytes, FLOP/s, hertz, watts, joules, degrees Celsius, seconds.

    Telemetry(samples=0, reasons={"telemetry": "no NVML on the CPU"})
"""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class DeviceLimits:
    """What the device can do at best, measured once in each worker: the roof that MBU and MFU are fractions of.

    `copy_bytes_per_s` counts bytes read plus bytes written of a large device-to-device copy; `gemm_flops` is a large
    matrix product in `gemm_dtype`, on random data. `l2_bytes` is the last cache before memory: L3 on most CPUs.
    """

    copy_bytes_per_s: float
    gemm_flops: float
    gemm_dtype: str
    l2_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Telemetry:
    """The device's own view of the timed trials, sampled by NVML beside them. Frequencies in Hz, power in watts.

    `slowdown_reasons` are the clock-event reasons seen (each with the fraction of samples that had it);
    `other_processes` the most compute processes seen on the GPU beside this one (None: cannot be told);
    `other_utilization` the busy fraction of the GPU at moments when this process gave it nothing to do;
    `other_memory_growth_bytes` how far the used memory that is not ours grew between the first trial and the last;
    `sm_clock_top_hz` the highest clock the device can run at;
    `power_limit_share` the power limit in force over the one this kind of device leaves the factory with;
    `host_best_probe_s` the least time that fixed work took on the host (jobs.host), with nobody in the way.
    """

    samples: int
    sm_clock_median_hz: float | None = None
    sm_clock_min_hz: float | None = None
    temperature_max_c: float | None = None
    power_median_w: float | None = None
    slowdown_reasons: dict[str, float] = field(default_factory=dict)
    other_processes: int | None = None
    other_utilization: float | None = None
    other_memory_growth_bytes: int | None = None
    sm_clock_top_hz: float | None = None
    power_limit_share: float | None = None
    host_best_probe_s: float | None = None
    reasons: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Energy:
    """Joules over windows of at least one second of repeated work, by phase; raw and less the idle power.

    `polled_j_per_prompt_token` and its like integrate polled power over the same windows: the cross-check of the
    counter. None with a reason where the device has no counter.
    """

    idle_power_w: float | None = None
    j_per_prompt_token: float | None = None
    j_per_generated_token: float | None = None
    j_per_prompt_token_above_idle: float | None = None
    j_per_generated_token_above_idle: float | None = None
    polled_j_per_prompt_token: float | None = None
    polled_j_per_generated_token: float | None = None
    prefill_window_s: float | None = None
    decode_window_s: float | None = None
    reasons: dict[str, str] = field(default_factory=dict)
