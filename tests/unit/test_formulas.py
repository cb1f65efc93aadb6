"""Every formula against a figure worked out by hand, and what it answers where there is no figure."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farm import formulas
from farm.records import Trial


def trial(ttft_s: float = 0.5, e2e_s: float = 2.0, tokens: int = 16) -> Trial:
    return Trial(0, (0,), ttft_s, 0.4, e2e_s - ttft_s, e2e_s, tokens)


def test_tpot_is_the_time_after_the_first_token_over_the_tokens_after_it() -> None:
    assert formulas.tpot_s(trial()) == pytest.approx(0.1)  # (2.0 - 0.5) / 15


def test_decode_counts_the_whole_batch() -> None:
    assert formulas.decode_tok_s(trial(), 1) == pytest.approx(10.0)
    assert formulas.decode_tok_s(trial(), 4) == pytest.approx(40.0)


def test_one_output_token_has_no_gap() -> None:
    assert formulas.tpot_s(trial(tokens=1)) is None
    assert formulas.decode_tok_s(trial(tokens=1), 1) is None


def test_a_clock_that_stood_still_gives_no_rate() -> None:
    assert formulas.decode_tok_s(trial(ttft_s=2.0), 1) is None
    assert formulas.prefill_tok_s(0.0, 1, 512) is None


def test_prefill_counts_every_prompt_token_of_the_batch() -> None:
    assert formulas.prefill_tok_s(0.25, 4, 512) == 8192.0
    assert formulas.prefill_tok_s(None, 4, 512) is None


def test_perplexity_of_a_fair_coin_is_two() -> None:
    nll = 100 * math.log(2)
    assert formulas.perplexity(nll, 100) == pytest.approx(2.0)
    assert formulas.word_perplexity(nll, 50) == pytest.approx(4.0)
    assert formulas.bits_per_byte(nll, 25) == pytest.approx(4.0)  # 100 bits in 25 bytes


def test_no_tokens_or_no_finite_value_give_no_perplexity() -> None:
    assert formulas.perplexity(1.0, 0) is None
    assert formulas.word_perplexity(800.0, 1) is None
    assert formulas.bits_per_byte(1.0, 0) is None


def test_change_against_a_baseline() -> None:
    assert formulas.delta(6.3, 6.0) == pytest.approx(0.3)
    assert formulas.percent_change(6.3, 6.0) == pytest.approx(5.0)
    assert formulas.ratio(30.0, 20.0) == 1.5


@pytest.mark.parametrize("function", [formulas.delta, formulas.percent_change, formulas.ratio])
def test_a_missing_side_gives_no_comparison(function: object) -> None:
    assert function(None, 1.0) is None  # type: ignore[operator]
    assert function(1.0, None) is None  # type: ignore[operator]


def test_nothing_is_divided_by_zero() -> None:
    assert formulas.percent_change(1.0, 0.0) is None
    assert formulas.ratio(1.0, 0.0) is None


def test_the_pareto_front_by_hand() -> None:
    # (2, 2) is beaten by (1, 2); equal points do not beat each other.
    assert formulas.pareto_front([(1.0, 2.0), (2.0, 2.0), (2.0, 1.0), (1.0, 2.0)]) == (0, 2, 3)


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=12))
def test_whatever_is_not_on_the_front_is_beaten_by_something_on_it(points: list[tuple[int, int, int]]) -> None:
    front = formulas.pareto_front([tuple(map(float, point)) for point in points])
    assert front
    for index, point in enumerate(points):
        beaten = any(all(points[i][k] <= point[k] for k in range(3)) and points[i] != point for i in front)
        assert beaten == (index not in front)


def test_byte_perplexity_is_two_to_the_bits_per_byte() -> None:
    bits = formulas.bits_per_byte(100.0, 80)
    assert bits is not None
    assert formulas.byte_perplexity(100.0, 80) == pytest.approx(2**bits) == pytest.approx(math.exp(1.25))
    assert formulas.byte_perplexity(100.0, 0) is None


@pytest.mark.parametrize(("change", "passes"), [(-3.0, True), (0.0, True), (4.999, True), (5.0, False), (None, None)])
def test_perplexity_may_grow_by_less_than_five_percent(change: float | None, passes: bool | None) -> None:
    assert formulas.within_limit(change) is passes
