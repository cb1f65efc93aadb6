"""Which trials count on an unsteady host: chosen by what was timed beside them, never by their own time."""

import random
from dataclasses import replace

import pytest

from farm.cells import SpeedTask
from farm.formulas import tpot_s
from farm.records import Telemetry, Trial
from farm.stats import median
from farm.steady import agree, is_slow, slowdown, sort_out, sorted_again
from tests.unit import record_builder as build
from tests.unit.sweeps import cells

TASK: SpeedTask = replace(cells()[0].task, runs=10, max_runs=60, ci_target=0.10)
BEST_S = 1e-3


def trial(index: int, seconds: float, probe_s: float | None) -> Trial:
    return Trial(index, (0,), seconds / 10, seconds / 10, seconds, seconds * 1.1, 11, host_probe_s=probe_s)


def spells(count: int, noise: float = 0.05, seed: int = 1) -> list[Trial]:
    """A host that is slowed for half of the time, in spells of three trials: 1.5 s instead of 1 s."""
    dice = random.Random(seed)
    slow = [state for _ in range(count) for state in [dice.random() < 0.5] * 3][:count]
    return [
        trial(i, (1.5 if s else 1.0) * dice.gauss(1, noise), BEST_S * (1.9 if s else 1.02)) for i, s in enumerate(slow)
    ]


def test_trials_of_a_slowed_host_are_set_aside_and_the_rest_is_the_hosts_own_speed() -> None:
    trials = spells(60)
    counted, set_aside = sort_out(trials, TASK, BEST_S)
    assert len(counted) + len(set_aside) == 60
    assert 20 < len(counted) < 40
    assert not agree(trials, TASK)
    assert agree(counted, TASK)
    assert median([tpot_s(t) for t in counted]) == pytest.approx(0.1, rel=0.03)
    assert [t.index for t in counted] == sorted(t.index for t in counted)


def test_fast_trials_of_a_slow_host_do_not_count_and_slow_ones_of_a_quiet_host_do() -> None:
    quiet = [trial(i, seconds, BEST_S) for i, seconds in enumerate([1.0, 1.04] * 8)]
    lucky = [trial(16 + i, 0.5, 2 * BEST_S) for i in range(15)]
    assert sort_out([*quiet, *lucky], TASK, BEST_S) == (tuple(quiet), tuple(lucky))


def test_all_count_where_the_steady_ones_agree_no_better() -> None:
    """Then it is not what the probe sees: leaving trials out would only widen the interval."""
    quiet = [trial(i, seconds, BEST_S) for i, seconds in enumerate([1.0, 1.4] * 8)]
    slow = [trial(16 + i, 1.2, 2 * BEST_S) for i in range(2)]
    assert sort_out([*quiet, *slow], TASK, BEST_S) == ((*quiet, *slow), ())


def test_a_record_is_read_by_the_rule_of_today() -> None:
    """Its quiet trials were counted alone once, though they agree no better: now all count, in their own order."""
    quiet = [trial(2 * i, seconds, BEST_S) for i, seconds in enumerate([1.0, 1.4] * 8)]
    slow = [trial(2 * i + 1, 1.2, 2 * BEST_S) for i in range(2)]
    told = Telemetry(9, host_best_probe_s=BEST_S)
    made = build.speed(replace(cells()[0], task=TASK))
    record = replace(made, speed=replace(made.speed, trials=tuple(quiet), set_aside=tuple(slow), telemetry=told))
    again = sorted_again(record).speed
    assert [t.index for t in again.trials] == [0, 1, 2, 3, *range(4, 31, 2)]
    assert again.set_aside == ()
    assert sorted_again(sorted_again(record)) == sorted_again(record)


def test_what_a_slow_host_cost() -> None:
    mostly = [trial(i, 1.0 + 0.3 * (i > 2), BEST_S * (1 + (i > 2))) for i in range(10)]
    assert slowdown(mostly, BEST_S) == pytest.approx(1.3)
    assert slowdown(mostly[1:], BEST_S) is None  # two quick ones are no evidence


def test_all_count_where_they_agree_or_too_few_are_left_or_nothing_was_probed() -> None:
    alike = [trial(i, 1.0, BEST_S * (1 + i % 2)) for i in range(10)]
    mostly_slow = [trial(i, 1.0 + i % 3, BEST_S * (1 if i < 9 else 2)) for i in range(30)]
    unprobed = [trial(i, 1.0 + i % 3, None) for i in range(30)]
    for trials, best_s in ((alike, BEST_S), (mostly_slow, BEST_S), (unprobed, None)):
        assert sort_out(trials, TASK, best_s) == (tuple(trials), ())


@pytest.mark.parametrize(
    ("probe_s", "best_s", "slow"), [(1.3, 1.0, True), (1.2, 1.0, False), (None, 1.0, False), (9.0, None, False)]
)
def test_slow_is_against_the_best_that_was_seen(probe_s: float | None, best_s: float | None, slow: bool) -> None:
    assert is_slow(probe_s, best_s) is slow
