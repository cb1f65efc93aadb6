"""What `tests.perf.turbo_variants` finds out about one variant, in what order it asks, and how it is told.

options_of("ahead96+warps16")               # {'ahead_kib': 96, 'warps': 16}
print(lines("int4wo, a step", outcomes))    # the first that was timed is what the others are compared with
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from farm.stats import bootstrap_median_ci, median

_FIELDS = {"ahead": "ahead_kib", "slice": "slice_bytes", "warps": "warps"}  # a word of a name: what it sets in a Build
_OPTION = re.compile(f"({'|'.join(_FIELDS)})([0-9]+)")


def options_of(name: str) -> dict[str, Any]:
    """Of a `Build`. Raises ValueError for a name that is none."""
    words = [] if name == "base" else name.split("+")
    options = [_OPTION.fullmatch(word) for word in words]
    if None in options:
        raise ValueError(f"{name!r} is no variant: base, or {', '.join(_FIELDS)} with a number, several joined by +")
    return {_FIELDS[option[1]]: int(option[2]) for option in options if option}


@dataclass(frozen=True, slots=True)
class Answer:
    """`values` are compared as numbers, `tokens` only counted: a rounding may turn a tie."""

    values: tuple[Tensor, ...]
    tokens: tuple[int, ...] = ()

    def difference(self, plain: "Answer") -> float:
        """The largest of any value, over the plain one's largest. NaN when there is one in either."""
        pairs = zip(self.values, plain.values, strict=True)
        return max(
            (float((own - other).abs().max() / other.abs().max()) for own, other in pairs),
            key=lambda each: float("inf") if each != each else each,
        )

    def same_tokens(self, plain: "Answer") -> int:
        """How many from the start on."""
        same = [own == other for own, other in zip(self.tokens, plain.tokens, strict=True)]
        return same.index(False) if False in same else len(same)


@dataclass(slots=True)
class Outcome:
    """`seconds`: one figure a round. With an `error` it was not timed."""

    name: str
    error: str | None = None
    difference: float | None = None
    same_tokens: int | None = None
    seconds: list[float] = field(default_factory=list)

    def compare(self, answer: Answer, plain: Answer, tolerance: float) -> None:
        self.difference = answer.difference(plain)
        self.same_tokens = answer.same_tokens(plain) if plain.tokens else None
        if not self.difference <= tolerance:
            self.error = f"answers otherwise: {self.difference:.2g} off, {tolerance:.2g} is rounding"


def take_turns(outcomes: list[Outcome], runs: dict[str, Callable[[], float]], rounds: int) -> None:
    """Every round begins with another one, so that none always follows the same."""
    timed = [outcome for outcome in outcomes if outcome.error is None]
    for number in range(rounds):
        first = number % max(1, len(timed))
        for outcome in timed[first:] + timed[:first]:
            outcome.seconds.append(runs[outcome.name]())


def lines(title: str, outcomes: list[Outcome]) -> str:
    timed = [outcome for outcome in outcomes if outcome.seconds]
    head = f"{title:22}   median us       /s   time over {timed[0].name if timed else 'none'}'s [95 %]"
    return "\n".join([head, *(_line(outcome, timed) for outcome in outcomes)])


def _line(outcome: Outcome, timed: list[Outcome]) -> str:
    if not outcome.seconds:
        return f"  {outcome.name:20}   failed: {outcome.error}"
    middle = median(outcome.seconds)
    ratios = [own / plain for own, plain in zip(outcome.seconds, timed[0].seconds, strict=True)]
    low, high = bootstrap_median_ci(ratios)
    interval = "" if low is None or high is None else f" [{low:.3f}, {high:.3f}]"
    tokens = "" if outcome.same_tokens is None else f", {outcome.same_tokens} tokens the same"
    off = "" if outcome.difference is None else f"   {outcome.difference:.1e} off{tokens}"
    return f"  {outcome.name:20} {1e6 * middle:11.1f} {1 / middle:8.1f}   {median(ratios):.3f}{interval}{off}"
