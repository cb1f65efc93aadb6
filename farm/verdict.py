"""May this row be trusted? A verdict with its evidence, from the raw samples of one speed cell.

Two kinds of reasons. Those in `DISTRUST` mean that the figure is not what the configuration gives on this device: the
row is *suspect*. The others (`launch_bound`, `power_bound`) leave it *valid* and say what it is a figure of: eager
decoding on a fast GPU truly takes that long, but it is the host's time and not the kernels'; and a card at the power
limit it left the factory with clocks as low as any other of its kind would. A lowered limit is throttling.

    verdict = judge(record.speed, record.cell.task)
    verdict.is_valid, [finding.reason for finding in verdict.findings]

The thresholds are here and nowhere else, so that published rows can be judged again when one of them is refined.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeGuard

from farm.cells import SpeedTask
from farm.device_facts import Telemetry
from farm.records import SpeedResult, Trial
from farm.stats import MAD_TO_SIGMA, mad, median, percentile
from farm.steady import HOST_COST, is_slow, slowdown, widest_ci

CI_WIDTH_LIMIT = 0.20  # full width of the 95 % interval of the median over the median: within 10 % either way
COLD_EXCESS = 0.10  # the first trials slower than the later ones by more than this ...
COLD_MADS = 6.0  # ... and by more than this many (scaled) median absolute deviations
SLOWDOWN_FRACTION = 0.05  # of the telemetry samples
POWER_CAP_FRACTION = 0.50  # a power cap comes and goes on every healthy card under full load
FACTORY_LIMIT = 0.99  # of the factory's power limit: what is below was lowered by somebody
OTHER_UTILIZATION = 0.10  # of the device (or of all CPU cores) used by others
OTHER_MEMORY_BYTES = 256 << 20  # only where neither processes nor utilization can be told
LAUNCH_FRACTION = 0.90  # of a token's time spent by the host handing out work
HOST_SPREAD_TOLD = 1.1  # slow over fast trials, on fixed work: below this it explains nothing
CAPPED_CLOCK = 0.95  # of the highest clock: below it a power cap slows the work
POWER_CAP = "sw_power_cap"
VALID = "valid"


class Reason(StrEnum):
    """Why a row is suspect, or what it is really a figure of."""

    NOISY = "noisy"
    THROTTLED = "throttled"
    CONTENDED = "contended"
    SHORT_OUTPUT = "short_output"
    LAUNCH_BOUND = "launch_bound"
    POWER_BOUND = "power_bound"
    FALLBACK_KERNEL = "fallback_kernel"
    COLD = "cold"
    SLOW_HOST = "slow_host"


DISTRUST = frozenset(Reason) - {Reason.LAUNCH_BOUND, Reason.POWER_BOUND}
# Measuring again can mend these; a fallback kernel or a short output would only come back.
PASSING = DISTRUST - {Reason.FALLBACK_KERNEL, Reason.SHORT_OUTPUT}


@dataclass(frozen=True, slots=True)
class Finding:
    """One reason and the figures it rests on."""

    reason: Reason
    evidence: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """All findings about one row."""

    findings: tuple[Finding, ...] = ()

    @property
    def is_valid(self) -> bool:
        return not any(finding.reason in DISTRUST for finding in self.findings)

    @property
    def worth_another_try(self) -> bool:
        return any(finding.reason in PASSING for finding in self.findings)

    @property
    def word(self) -> str:
        """`valid`, `valid (launch_bound)`, or the reasons of distrust joined by `+`."""
        distrust = [f.reason.value for f in self.findings if f.reason in DISTRUST]
        notes = [f.reason.value for f in self.findings if f.reason not in DISTRUST]
        word = "+".join(distrust) or VALID
        return f"{word} ({'+'.join(notes)})" if notes else word


def judge(speed: SpeedResult, task: SpeedTask, disturbed: str | None = None) -> Verdict:
    """Every check on one result. `disturbed`: what the run's canary says of its neighbours (farm.interference)."""
    found = [check(speed, task) for check in _CHECKS]
    findings = [finding for finding in found if finding is not None]
    if disturbed is not None and not any(finding.reason is Reason.CONTENDED for finding in findings):
        findings.append(Finding(Reason.CONTENDED, disturbed))
    return Verdict(tuple(findings))


def launch_share(speed: SpeedResult) -> float | None:
    """How much of a token's time the host spends handing out its work; None where host and device are one."""
    if speed.device_clock != "cuda_event" or not speed.itl_enqueue_s or not speed.itl_s:
        return None
    return median(speed.itl_enqueue_s) / median(speed.itl_s)


def is_launch_bound(share: float | None) -> TypeGuard[float]:
    """Does handing out a token's work take as long as the token? `share` is its `launch_share`."""
    return share is not None and share > LAUNCH_FRACTION


def is_noisy(trials: Sequence[Trial]) -> bool:
    """Is the wider interval, of the time to first token or per output token, too wide for a valid row?"""
    width = widest_ci(trials)
    return width is not None and width > CI_WIDTH_LIMIT


def _noisy(speed: SpeedResult, task: SpeedTask) -> Finding | None:
    if not is_noisy(speed.trials):
        return None
    evidence = f"95 % interval is {widest_ci(speed.trials):.0%} of the median after {len(speed.trials)} runs"
    return Finding(Reason.NOISY, evidence + _unsteady_host(speed))


def host_spread(speed: SpeedResult) -> float | None:
    """How much slower the host was at its slow trials (90th percentile) than at its fast ones (10th), on fixed work."""
    probes = _probes((*speed.trials, *speed.set_aside))
    return percentile(probes, 90) / percentile(probes, 10) if len(probes) > 1 else None


def _probes(trials: Sequence[Trial]) -> list[float]:
    return [trial.host_probe_s for trial in trials if trial.host_probe_s is not None]


def _unsteady_host(speed: SpeedResult) -> str:
    spread = host_spread(speed)
    if spread is None or spread < HOST_SPREAD_TOLD:
        return ""
    return f"; the host itself varied: the same Python work took up to {spread:.2f}x as long"


def _cold(speed: SpeedResult, task: SpeedTask) -> Finding | None:
    """Are the first trials still slower than the rest? Then the warm-up was too short."""
    times = [trial.e2e_s for trial in speed.trials]
    if len(times) < 6:
        return None
    first, rest = times[:2], times[len(times) // 2 :]
    excess = min(first) - median(rest)
    if excess <= COLD_EXCESS * median(rest) or excess <= COLD_MADS * MAD_TO_SIGMA * mad(rest):
        return None
    return Finding(Reason.COLD, f"the first two runs took {excess / median(rest):.0%} longer than the later half")


def _throttled(speed: SpeedResult, task: SpeedTask) -> Finding | None:
    telemetry = speed.telemetry
    if telemetry is None:
        return None
    bad = [
        f"{name} in {fraction:.0%} of samples"
        for name, fraction in sorted(telemetry.slowdown_reasons.items())
        if fraction > SLOWDOWN_FRACTION and name != POWER_CAP
    ]
    if _is_capped(telemetry) and not _has_factory_limit(telemetry):
        bad.append(f"{POWER_CAP} in {telemetry.slowdown_reasons[POWER_CAP]:.0%} of samples{_limit_told(telemetry)}")
    return Finding(Reason.THROTTLED, "; ".join(bad)) if bad else None


def _power_bound(speed: SpeedResult, task: SpeedTask) -> Finding | None:
    telemetry = speed.telemetry
    if telemetry is None or not _is_capped(telemetry) or not _has_factory_limit(telemetry):
        return None
    clock, top = telemetry.sm_clock_median_hz, telemetry.sm_clock_top_hz
    clocks = f": {clock / 1e6:.0f} of {top / 1e6:.0f} MHz" if clock and top else ""
    return Finding(Reason.POWER_BOUND, f"at the factory's power limit{clocks}")


def _is_capped(telemetry: Telemetry) -> bool:
    """A card at its power limit says so even where that costs it 1 or 2 % of its clock: then it is not slowed."""
    clock, top = telemetry.sm_clock_median_hz, telemetry.sm_clock_top_hz
    keeps_clock = bool(clock and top and clock >= CAPPED_CLOCK * top)
    return not keeps_clock and telemetry.slowdown_reasons.get(POWER_CAP, 0.0) > POWER_CAP_FRACTION


def _has_factory_limit(telemetry: Telemetry) -> bool:
    return telemetry.power_limit_share is not None and telemetry.power_limit_share >= FACTORY_LIMIT


def _limit_told(telemetry: Telemetry) -> str:
    share = telemetry.power_limit_share
    return "" if share is None else f", and the limit is {share:.0%} of the factory's"


def _contended(speed: SpeedResult, task: SpeedTask) -> Finding | None:
    telemetry = speed.telemetry
    if telemetry is None:
        return None
    if telemetry.other_processes:
        return Finding(Reason.CONTENDED, f"{telemetry.other_processes} other compute process(es) on the device")
    used, grown = telemetry.other_utilization, telemetry.other_memory_growth_bytes
    if used is None and telemetry.other_processes is None and grown is not None and grown > OTHER_MEMORY_BYTES:
        return Finding(Reason.CONTENDED, f"memory of others on the device grew by {grown / 1e9:.1f} GB")
    if used is not None and used > OTHER_UTILIZATION:
        return Finding(Reason.CONTENDED, f"others used {used:.0%} of the device during the runs")
    return None


def _short_output(speed: SpeedResult, task: SpeedTask) -> Finding | None:
    shortest = min((trial.output_tokens for trial in speed.trials), default=task.new_tokens)
    if shortest >= task.new_tokens:
        return None
    return Finding(Reason.SHORT_OUTPUT, f"{shortest} of {task.new_tokens} tokens came out")


def _launch_bound(speed: SpeedResult, task: SpeedTask) -> Finding | None:
    share = launch_share(speed)
    if not is_launch_bound(share):
        return None
    return Finding(Reason.LAUNCH_BOUND, f"the host spends {share:.0%} of a token's time handing out its work")


def _slow_host(speed: SpeedResult, task: SpeedTask) -> Finding | None:
    """Where the host is the limit: was it slow at most of the trials, and is the figure another for it? Then they agree
    on a neighbour's doing."""
    best_s = speed.telemetry.host_best_probe_s if speed.telemetry else None
    probes = _probes(speed.trials)
    if best_s is None or not probes or not is_launch_bound(launch_share(speed)):
        return None
    usual_s = median(probes)
    cost = slowdown(speed.trials, best_s)
    if not is_slow(usual_s, best_s) or (cost is not None and cost <= HOST_COST):
        return None
    return Finding(Reason.SLOW_HOST, f"fixed work beside the runs took {usual_s / best_s:.2f}x as long as at best")


def _fallback_kernel(speed: SpeedResult, task: SpeedTask) -> Finding | None:
    mismatches = speed.effective.mismatches
    return Finding(Reason.FALLBACK_KERNEL, "; ".join(mismatches)) if mismatches else None


_CHECKS: tuple[Callable[[SpeedResult, SpeedTask], Finding | None], ...] = (
    _noisy,
    _throttled,
    _power_bound,
    _contended,
    _short_output,
    _launch_bound,
    _slow_host,
    _fallback_kernel,
    _cold,
)
