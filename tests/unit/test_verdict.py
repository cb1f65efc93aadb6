"""The verdict on a row: each reason is found when it is there, and not otherwise."""

from dataclasses import replace

import pytest

from farm.records import Effective, Memory, SpeedResult, Telemetry, Trial
from farm.stats import ci_width
from farm.steady import widest_ci
from farm.verdict import Reason, judge
from tests.unit.sweeps import cells

TASK = replace(cells()[0].task, new_tokens=5)


def trials(times: list[float], tokens: int = 5) -> tuple[Trial, ...]:
    return tuple(Trial(i, (0,), t / 10, t / 10, t * 0.9, t, tokens, t * 0.9) for i, t in enumerate(times))


def result(times: list[float] | None = None, **changes: object) -> SpeedResult:
    steady = SpeedResult(trials(times or [1.0] * 10), (0.1,) * 4, Memory(), Effective({}, {}), "p", "cuda_event")
    return replace(steady, **changes)


def reasons(speed: SpeedResult) -> list[Reason]:
    return [finding.reason for finding in judge(speed, TASK).findings]


def test_a_steady_row_is_valid() -> None:
    verdict = judge(result(), TASK)
    assert (verdict.is_valid, verdict.word, verdict.worth_another_try) == (True, "valid", False)


def test_a_wide_interval_is_noise() -> None:
    verdict = judge(result([1.0, 1.6, 0.8, 1.5, 0.9, 1.4, 1.0, 1.7, 0.7, 1.2]), TASK)
    assert verdict.word == "noisy"
    assert not verdict.is_valid
    assert verdict.worth_another_try
    assert "after 10 runs" in verdict.findings[0].evidence


def test_noise_tells_when_the_host_itself_was_unsteady() -> None:
    times = [1.0, 2.0] * 5
    steady, unsteady = ([1e-3] * 10, [1e-3, 1.8e-3] * 5)
    told = [judge(probed(times, probes), TASK).findings[0].evidence for probes in (steady, unsteady)]
    assert "host itself" not in told[0]
    assert told[1].endswith("; the host itself varied: the same Python work took up to 1.80x as long")


def probed(times: list[float], probes: list[float], **changes: object) -> SpeedResult:
    beside = zip(trials(times), probes, strict=True)
    return result(trials=tuple(replace(trial, host_probe_s=probe) for trial, probe in beside), **changes)


def test_a_host_that_is_slow_all_along_is_told_where_the_host_is_the_limit() -> None:
    """All trials agree, and on the wrong figure: a neighbour's."""
    bound = {"itl_enqueue_s": (0.099,) * 4, "telemetry": Telemetry(9, host_best_probe_s=1e-3)}
    slow = judge(probed([1.0] * 10, [1.9e-3] * 9 + [1e-3], **bound), TASK)
    assert slow.word == "slow_host (launch_bound)"
    assert slow.worth_another_try
    assert slow.findings[1].evidence == "fixed work beside the runs took 1.90x as long as at best"
    assert judge(probed([1.0] * 10, [1e-3] * 9 + [1.9e-3], **bound), TASK).word == "valid (launch_bound)"
    assert judge(probed([1.0] * 10, [1.9e-3] * 10, **bound | {"itl_enqueue_s": (0.01,) * 4}), TASK).word == "valid"


def test_one_outlier_of_ten_is_no_noise() -> None:
    assert reasons(result([1.0] * 9 + [3.0])) == []


def test_slow_first_runs_are_a_cold_start() -> None:
    assert reasons(result([1.6, 1.5] + [1.0, 1.01] * 9)) == [Reason.COLD]
    assert reasons(result([1.6] + [1.0, 1.01] * 9)) == []


@pytest.mark.parametrize(
    ("seen", "throttled"),
    [
        ({"hw_thermal_slowdown": 0.10}, True),
        ({"hw_thermal_slowdown": 0.01}, False),
        ({"sw_power_cap": 0.4}, False),
        ({"sw_power_cap": 0.6}, True),
    ],
)
def test_clock_events_throttle(seen: dict[str, float], throttled: bool) -> None:
    found = reasons(result(telemetry=Telemetry(100, slowdown_reasons=seen)))
    assert found == ([Reason.THROTTLED] if throttled else [])


@pytest.mark.parametrize(("clock_hz", "throttled"), [(1.90e9, False), (1.80e9, True), (None, True)])
def test_a_power_cap_throttles_when_it_costs_clock(clock_hz: float | None, throttled: bool) -> None:
    seen = {"sw_power_cap": 1.0}
    telemetry = Telemetry(9, sm_clock_median_hz=clock_hz, slowdown_reasons=seen, sm_clock_top_hz=1.98e9)
    assert reasons(result(telemetry=telemetry)) == ([Reason.THROTTLED] if throttled else [])


@pytest.mark.parametrize(("share", "word"), [(1.0, "valid (power_bound)"), (0.7, "throttled"), (None, "throttled")])
def test_the_factorys_power_limit_is_the_cards_own_and_a_lowered_one_is_not(share: float | None, word: str) -> None:
    seen = {"sw_power_cap": 0.9}
    telemetry = Telemetry(9, 1.7e9, slowdown_reasons=seen, sm_clock_top_hz=1.98e9, power_limit_share=share)
    verdict = judge(result(telemetry=telemetry), TASK)
    assert verdict.word == word
    told = {1.0: "at the factory's power limit: 1700 of 1980 MHz", 0.7: "the limit is 70% of the factory's"}
    assert told.get(share, "sw_power_cap in 90% of samples") in verdict.findings[0].evidence


@pytest.mark.parametrize(
    ("telemetry", "contended"),
    [
        (Telemetry(9, other_processes=1), True),
        (Telemetry(9, other_processes=0), False),
        (Telemetry(9, other_utilization=0.5), True),
        (Telemetry(9, other_utilization=0.05), False),
        (Telemetry(0), False),
        (Telemetry(9, other_memory_growth_bytes=1 << 30), True),
        (Telemetry(9, other_memory_growth_bytes=1 << 20), False),
        (Telemetry(9, other_memory_growth_bytes=1 << 30, other_processes=0), False),
        (None, False),
    ],
)
def test_others_on_the_device_contend(telemetry: Telemetry | None, contended: bool) -> None:
    assert reasons(result(telemetry=telemetry)) == ([Reason.CONTENDED] if contended else [])


def test_a_short_output_is_suspect_and_not_tried_again() -> None:
    verdict = judge(result(trials=trials([1.0] * 10, tokens=3)), TASK)
    assert verdict.word == "short_output"
    assert verdict.findings[0].evidence == "3 of 5 tokens came out"
    assert not verdict.worth_another_try


def test_launch_bound_says_what_the_figure_is_and_leaves_it_valid() -> None:
    verdict = judge(result(itl_enqueue_s=(0.099,) * 4), TASK)
    assert (verdict.word, verdict.is_valid) == ("valid (launch_bound)", True)
    assert reasons(result(itl_enqueue_s=(0.05,) * 4)) == []
    assert reasons(result(itl_enqueue_s=(0.099,) * 4, device_clock="perf_counter")) == []


def test_a_fallback_kernel_is_suspect() -> None:
    effective = Effective({}, {}, mismatches=("asked for Marlin, got TorchLinear",))
    assert judge(result(effective=effective), TASK).word == "fallback_kernel"


def test_several_reasons_are_all_told() -> None:
    speed = result([1.0, 1.6, 0.8, 1.5, 0.9, 1.4, 1.0, 1.7, 0.7, 1.2], itl_enqueue_s=(0.1,) * 4)
    assert (
        judge(replace(speed, telemetry=Telemetry(9, other_processes=2)), TASK).word == "noisy+contended (launch_bound)"
    )


def test_widths_by_hand() -> None:
    assert ci_width([2.0] * 5) == 0.0
    assert ci_width([1.0]) is None
    wide = trials([1.0, 2.0] * 5)
    assert widest_ci(wide) == pytest.approx(1 / 1.5)
