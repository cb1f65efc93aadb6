"""Joules per token from two windows of repeated work: pure arithmetic, checked by hand.

The physics: energy is power over time, and the GPU's counter ticks only every 10-100 ms; so a phase is repeated until
the window is at least a second long. A decode window holds whole generations, since a generation cannot decode without
its prefill; the prefills' share, known from the other window, is taken off:

    E(prefill)     = E(prefill window) / prefills
    E(decode step) = (E(decode window) - prefills in it * E(prefill)) / steps in it

"Above idle" takes idle power times the window's length off first. Polled power is integrated by the trapezoid rule.

    >>> trapezoid([(0.0, 100.0), (1.0, 300.0)])
    200.0

Sources: counter against polling, and how little of the time the H100's sensor looks: Yang et al., "Part-time Power
Measurements: nvidia-smi's Lack of Attention" (arXiv 2312.02741); the counter instead of polling: Zeus (ml.energy).
"""

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from farm.device_facts import Energy

WINDOW_S = 1.0
LONGEST_S = 6.0
LEAD_IN_S = 0.1


@dataclass(frozen=True, slots=True)
class EnergyPlan:
    """How often to repeat what. `lead_in` prefills before each window bring power and sensor to a steady state."""

    lead_in: int
    prefills: int
    generations: int
    steps: int


@dataclass(frozen=True, slots=True)
class Window:
    """Work done between two readings of the counter. `steps` are decode steps over all its generations."""

    seconds: float
    prefills: int
    steps: int
    counter_j: float | None
    polled_j: float | None


def plan_windows(
    prefill_s: float, step_s: float, new_tokens: int, window_s: float = WINDOW_S, longest_s: float = LONGEST_S
) -> EnergyPlan | None:
    """Enough work for `window_s` of each phase, as far as `longest_s` allows. None when one prefill is too long."""
    if not 0 < prefill_s <= longest_s:
        return None
    prefills = math.ceil(window_s / prefill_s)
    lead_in = math.ceil(min(LEAD_IN_S, prefill_s * prefills) / prefill_s)
    if new_tokens < 2 or step_s <= 0:
        return EnergyPlan(lead_in, prefills, 0, 0)
    steps = min(new_tokens - 1, max(1, math.floor(longest_s / step_s)))
    affordable = math.floor(longest_s / (prefill_s + steps * step_s))
    generations = max(1, min(math.ceil(window_s / (steps * step_s)), affordable))
    return EnergyPlan(lead_in, prefills, generations, steps)


def trapezoid(readings: Sequence[tuple[float, float]]) -> float | None:
    """Integrate (seconds, watts) to joules. None below two readings."""
    if len(readings) < 2:
        return None
    return sum((t1 - t0) * (w0 + w1) / 2 for (t0, w0), (t1, w1) in itertools.pairwise(readings))


def energy_of(
    prefill: Window, decode: Window | None, idle_w: float | None, *, batch: int, prompt_tokens: int, new_tokens: int
) -> Energy:
    """All figures of one cell. A window that was cut short, or that drowned in its prefills, says so in `reasons`."""
    shares = (prefill, decode, batch, prompt_tokens)
    prompt, generated = _per_token(lambda window: window.counter_j, *shares)
    net_prompt, net_generated = _per_token(lambda window: _above(window, idle_w), *shares)
    polled_prompt, polled_generated = _per_token(lambda window: window.polled_j, *shares)
    energy = Energy(
        idle_power_w=idle_w,
        j_per_prompt_token=prompt,
        j_per_generated_token=generated,
        j_per_prompt_token_above_idle=net_prompt,
        j_per_generated_token_above_idle=net_generated,
        polled_j_per_prompt_token=polled_prompt,
        polled_j_per_generated_token=polled_generated,
        prefill_window_s=prefill.seconds,
        decode_window_s=decode.seconds if decode else None,
    )
    energy.reasons.update(_reasons(energy, prefill, decode, new_tokens))
    return energy


def _per_token(
    joules: Callable[[Window], float | None], prefill: Window, decode: Window | None, batch: int, prompt_tokens: int
) -> tuple[float | None, float | None]:
    """Joules per prompt token and per generated token, by one way of counting joules."""
    prefill_j = joules(prefill)
    if prefill_j is None:
        return None, None
    one = prefill_j / prefill.prefills
    return one / (batch * prompt_tokens), _decode_share(decode, joules(decode) if decode else None, one, batch)


def _decode_share(decode: Window | None, decode_j: float | None, prefill_j: float, batch: int) -> float | None:
    if decode is None or decode_j is None:
        return None
    rest = decode_j - decode.prefills * prefill_j
    return rest / (decode.steps * batch) if rest > 0 else None


def _above(window: Window, idle_w: float | None) -> float | None:
    if window.counter_j is None or idle_w is None:
        return None
    return window.counter_j - idle_w * window.seconds


def _reasons(energy: Energy, prefill: Window, decode: Window | None, new_tokens: int) -> dict[str, str]:
    if prefill.counter_j is None:
        return {"j_per_prompt_token": "this GPU has no energy counter"}
    if decode is None:
        return {"j_per_generated_token": "one new token has no decode step"}
    reasons = {}
    if energy.j_per_generated_token is None:
        reasons["j_per_generated_token"] = "the prefills in the window took as much energy as the whole of it"
    if decode.steps < decode.prefills * (new_tokens - 1):
        reasons["decode_window_s"] = (
            f"bounded: the first {decode.steps // decode.prefills} of {new_tokens - 1} decode steps only"
        )
    return reasons
