"""Joules per token by hand, and windows that are long enough without being too long."""

import pytest

from farm.energy import EnergyPlan, Window, energy_of, plan_windows, trapezoid

SHAPE = {"batch": 1, "prompt_tokens": 100, "new_tokens": 11}

# --- arithmetic


def test_the_trapezoid_rule() -> None:
    assert trapezoid([(0.0, 100.0), (1.0, 300.0), (3.0, 300.0)]) == 200.0 + 600.0
    assert trapezoid([(5.0, 100.0)]) is None


def test_joules_per_token_by_hand() -> None:
    """4 prefills take 800 J: 200 J each. 2 generations take 700 J, 400 of them prefill: 300 J for 20 steps."""
    prefill = Window(seconds=1.0, prefills=4, steps=0, counter_j=800.0, polled_j=880.0)
    decode = Window(seconds=2.0, prefills=2, steps=20, counter_j=700.0, polled_j=760.0)
    energy = energy_of(prefill, decode, 100.0, **SHAPE)
    assert energy.j_per_prompt_token == 2.0
    assert energy.j_per_generated_token == 15.0
    assert energy.j_per_prompt_token_above_idle == (800 - 100) / 4 / 100
    assert energy.j_per_generated_token_above_idle == (700 - 200 - 2 * 175) / 20
    assert energy.polled_j_per_prompt_token == 2.2
    assert energy.polled_j_per_generated_token == (760 - 440) / 20
    assert (energy.prefill_window_s, energy.decode_window_s, energy.reasons) == (1.0, 2.0, {})


def test_a_batch_shares_the_joules() -> None:
    windows = Window(1.0, 4, 0, 800.0, None), Window(2.0, 2, 20, 700.0, None)
    energy = energy_of(*windows, 100.0, batch=4, prompt_tokens=100, new_tokens=11)
    assert (energy.j_per_prompt_token, energy.j_per_generated_token) == (0.5, 3.75)
    assert energy.polled_j_per_prompt_token is None


def test_without_a_counter_polled_power_remains() -> None:
    energy = energy_of(Window(1.0, 4, 0, None, 880.0), Window(2.0, 2, 20, None, 760.0), 100.0, **SHAPE)
    assert energy.j_per_prompt_token is energy.j_per_generated_token is energy.j_per_prompt_token_above_idle is None
    assert (energy.polled_j_per_prompt_token, energy.polled_j_per_generated_token) == (2.2, 16.0)
    assert "no energy counter" in energy.reasons["j_per_prompt_token"]


def test_a_negative_share_is_no_figure() -> None:
    energy = energy_of(Window(1.0, 4, 0, 800.0, None), Window(0.1, 1, 1, 150.0, None), 100.0, **SHAPE)
    assert energy.j_per_generated_token is None
    assert "as much energy" in energy.reasons["j_per_generated_token"]


def test_no_idle_power_no_figure_above_it() -> None:
    energy = energy_of(Window(1.0, 4, 0, 800.0, 880.0), None, None, **SHAPE)
    assert energy.j_per_prompt_token == 2.0
    assert energy.j_per_prompt_token_above_idle is energy.idle_power_w is None


# --- the plan


@pytest.mark.parametrize(
    ("prefill_s", "step_s", "new_tokens", "plan"),
    [
        (0.25, 0.01, 101, EnergyPlan(lead_in=1, prefills=4, generations=1, steps=100)),  # one generation is enough
        (0.02, 0.01, 26, EnergyPlan(lead_in=5, prefills=50, generations=4, steps=25)),  # four of 0.25 s
        (2.0, 0.1, 11, EnergyPlan(lead_in=1, prefills=1, generations=1, steps=10)),
        (1.0, 0.25, 128, EnergyPlan(lead_in=1, prefills=1, generations=1, steps=24)),  # bounded: 6 s of 32
        (2.5, 0.001, 11, EnergyPlan(lead_in=1, prefills=1, generations=2, steps=10)),  # bounded: 100 would take 250 s
        (0.25, 0.0, 1, EnergyPlan(lead_in=1, prefills=4, generations=0, steps=0)),
    ],
)
def test_windows_of_a_second_within_bounds(prefill_s: float, step_s: float, new_tokens: int, plan: EnergyPlan) -> None:
    assert plan_windows(prefill_s, step_s, new_tokens) == plan


def test_a_prefill_beyond_the_bound_is_not_measured() -> None:
    assert plan_windows(7.0, 0.1, 10) is None
