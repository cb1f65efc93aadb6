"""Statistics against figures worked out by hand, and properties that hold for any samples."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from farm.stats import (
    bootstrap_median_ci,
    effective_count,
    mad,
    median,
    outlier_indexes,
    p99,
    percentile,
    summarize,
)

TIMES = st.lists(st.floats(1e-6, 1e3), min_size=1, max_size=30)


def test_median_of_an_even_number_is_the_mean_of_the_middle_two() -> None:
    assert median([4.0, 1.0, 3.0, 2.0]) == 2.5


def test_mad_by_hand() -> None:
    # median 3; distances 2, 1, 0, 1, 97: their median is 1.
    assert mad([1.0, 2.0, 3.0, 4.0, 100.0]) == 1.0


def test_percentile_interpolates_between_order_statistics() -> None:
    # Type 7: position 0.9 * (5 - 1) = 3.6, so 4 + 0.6 * (5 - 4).
    assert percentile([1.0, 2.0, 3.0, 4.0, 5.0], 90) == pytest.approx(4.6)


def test_p99_needs_a_hundred_samples() -> None:
    assert p99([1.0] * 99) is None
    # Position 0.99 * 99 = 98.01 between 98 and 99.
    assert p99([float(i) for i in range(100)]) == pytest.approx(98.01)


def test_an_outlier_lies_beyond_three_and_a_half_scaled_mads() -> None:
    # MAD 1, so the limit is 3.5 * 1.4826 = 5.1891 on either side of 3.
    assert outlier_indexes([1.0, 2.0, 3.0, 4.0, 8.18]) == ()
    assert outlier_indexes([1.0, 2.0, 3.0, 4.0, 8.20]) == (4,)
    assert outlier_indexes([-3.0, 2.0, 3.0, 4.0, 3.5]) == (0,)


def test_outliers_are_marked_and_not_dropped() -> None:
    summary = summarize([1.0, 2.0, 3.0, 4.0, 100.0])
    assert summary.outliers == (4,)
    assert (summary.n, summary.maximum) == (5, 100.0)


def test_a_single_sample_has_no_interval() -> None:
    summary = summarize([0.25])
    assert (summary.n, summary.median, summary.mad) == (1, 0.25, 0.0)
    assert (summary.ci_low, summary.ci_high) == (None, None)


def test_the_interval_repeats_and_depends_on_the_seed() -> None:
    samples = [1.0, 1.3, 1.1, 2.0, 1.7, 1.2, 1.9]
    assert bootstrap_median_ci(samples) == bootstrap_median_ci(samples)
    assert len({bootstrap_median_ci(samples, resamples=20, seed=seed) for seed in range(10)}) > 1


def test_more_confidence_widens_the_interval() -> None:
    samples = [float(i) for i in range(40)]
    narrow, wide = bootstrap_median_ci(samples, 0.5), bootstrap_median_ci(samples, 0.99)
    assert narrow[0] is not None and wide[0] is not None
    assert wide[0] < narrow[0] < narrow[1] < wide[1]


def test_the_interval_of_many_samples_covers_the_true_median_about_as_often_as_it_says() -> None:
    random = np.random.default_rng(7)
    runs = [bootstrap_median_ci(list(random.normal(10, 1, 25)), resamples=500) for _ in range(200)]
    covered = sum(low <= 10 <= high for low, high in runs if low is not None)
    assert 180 <= covered <= 199


def test_a_long_series_is_resampled_in_chunks_with_the_same_meaning() -> None:
    low, high = bootstrap_median_ci([float(i * 37 % 100) for i in range(120_000)], resamples=20)
    assert low is not None and abs(low - 49.5) < 1 and abs(high - 49.5) < 1


def test_statistics_of_nothing_are_an_error() -> None:
    for function in (median, mad, summarize, bootstrap_median_ci, outlier_indexes):
        with pytest.raises(ValueError, match="no samples"):
            function([])  # type: ignore[operator]


@given(TIMES)
def test_the_interval_lies_within_the_samples_and_everything_is_a_plain_number(samples: list[float]) -> None:
    summary = summarize(samples)
    assert summary.minimum <= summary.median <= summary.maximum
    for value in (summary.median, summary.mad, summary.minimum, summary.maximum):
        assert type(value) is float and math.isfinite(value)
    if summary.ci_low is not None and summary.ci_high is not None:
        assert type(summary.ci_low) is float
        assert summary.minimum <= summary.ci_low <= summary.ci_high <= summary.maximum


@given(TIMES, st.randoms())
def test_the_order_of_samples_changes_only_where_the_outliers_are(samples: list[float], random: object) -> None:
    shuffled = list(samples)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    marked = sorted(samples[index] for index in outlier_indexes(samples))
    assert sorted(shuffled[index] for index in outlier_indexes(shuffled)) == marked
    assert (median(shuffled), mad(shuffled)) == (median(samples), mad(samples))


def test_samples_without_memory_all_count() -> None:
    assert effective_count([1.0, 3.0, 2.0, 5.0, 4.0, 1.5, 3.5, 2.5]) == 8
    assert effective_count([7.0] * 10) == 10
    assert effective_count([1.0, 2.0] * 10) == 20  # alternating is no memory to be afraid of
    assert effective_count([1.0, 9.0]) == 2


def test_spells_count_for_less() -> None:
    """Ten fast runs and then ten slow ones: hardly more than two observations."""
    spells = [1.0 + i / 1e3 for i in range(10)] + [2.0 + i / 1e3 for i in range(10)]
    assert effective_count(spells) == 2
    assert effective_count([1.0] * 5 + [2.0] * 5 + [1.0] * 5 + [2.0] * 5) < 10


def test_spells_widen_the_interval() -> None:
    mixed = [1.0, 2.0, 2.0, 1.0, 1.0, 2.0, 1.0, 2.0, 2.0, 1.0, 1.0] + [1.5] * 10
    low, high = bootstrap_median_ci(sorted(mixed))
    narrow_low, narrow_high = bootstrap_median_ci(mixed)
    assert low is not None and high is not None and narrow_low is not None and narrow_high is not None
    assert high - low > narrow_high - narrow_low
