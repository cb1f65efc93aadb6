"""Robust statistics of repeated timings: the middle, the spread, an interval, and which samples look odd.

Why robust: timings are skewed to the right (a page fault, a clock change), so the mean follows the worst sample and
the standard deviation says little. The median and the MAD (median absolute deviation) hold with half the samples bad.

    >>> summarize([1.0, 2.0, 3.0, 4.0, 100.0]).outliers
    (4,)

Why an effective number: on a shared machine slow and fast spells last for many runs, so ten runs in a row tell less
than ten independent ones. The interval counts only as many samples as their autocorrelation leaves.

Sources: Hampel, "The influence curve and its role in robust estimation", JASA 69 (1974) for the MAD; Iglewicz and
Hoaglin, "How to Detect and Handle Outliers" (1993) for the 3.5 rule; Efron, "Bootstrap Methods: Another Look at the
Jackknife", Ann. Statist. 7 (1979) for the interval; Bickel, Goetze and van Zwet, "Resampling fewer than n
observations", Statistica Sinica 7 (1997), with the AR(1) effective sample size for serially correlated samples.
"""

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

# 1 / (0.75 quantile of the standard normal): makes the MAD of normal samples estimate their standard deviation.
MAD_TO_SIGMA = 1.4826
OUTLIER_SIGMAS = 3.5
SAMPLES_FOR_P99 = 100
# 8 MB of indexes at a time: a sweep may ask for 100,000 runs.
_BOOTSTRAP_CHUNK = 1_000_000


@dataclass(frozen=True, slots=True)
class Summary:
    """What `n` samples say. `outliers` are positions in the samples: marked, never dropped.

    `ci_low` and `ci_high` bound the median with 95 % confidence; None for one sample, which has no spread.
    """

    n: int
    median: float
    mad: float
    ci_low: float | None
    ci_high: float | None
    minimum: float
    maximum: float
    outliers: tuple[int, ...]


def summarize(samples: Sequence[float]) -> Summary:
    """All figures of one set of samples. Raises ValueError when there are none."""
    low, high = bootstrap_median_ci(samples)
    return Summary(
        n=len(samples),
        median=median(samples),
        mad=mad(samples),
        ci_low=low,
        ci_high=high,
        minimum=float(min(samples)),
        maximum=float(max(samples)),
        outliers=outlier_indexes(samples),
    )


def scaled_median(summary: Summary | None, scale: float = 1.0) -> float | None:
    """The median in another unit; None where nothing was measured."""
    return None if summary is None else summary.median * scale


def median(samples: Sequence[float]) -> float:
    """The middle value; the mean of the two middle ones when their number is even."""
    _require(samples)
    return float(np.median(samples))


def mad(samples: Sequence[float]) -> float:
    """Median absolute deviation: median(|x - median(x)|), unscaled (Hampel 1974)."""
    center = median(samples)
    return median([abs(sample - center) for sample in samples])


def percentile(samples: Sequence[float], percent: float) -> float:
    """Linear interpolation between order statistics (Hyndman and Fan 1996, type 7; numpy's default)."""
    _require(samples)
    return float(np.percentile(samples, percent))


def p99(samples: Sequence[float]) -> float | None:
    """The 99th percentile, or None below 100 samples: with fewer it is just the largest one in disguise."""
    return percentile(samples, 99) if len(samples) >= SAMPLES_FOR_P99 else None


def outlier_indexes(samples: Sequence[float]) -> tuple[int, ...]:
    """Positions where |x - median| > 3.5 * 1.4826 * MAD (Iglewicz and Hoaglin 1993: modified z-score above 3.5).

    When more than half of the samples are equal the MAD is 0 and every different sample is marked.
    """
    center = median(samples)
    limit = OUTLIER_SIGMAS * MAD_TO_SIGMA * mad(samples)
    return tuple(index for index, sample in enumerate(samples) if abs(sample - center) > limit)


def bootstrap_median_ci(
    samples: Sequence[float], confidence: float = 0.95, resamples: int = 2000, seed: int = 42
) -> tuple[float, float] | tuple[None, None]:
    """Percentile bootstrap of the median (Efron 1979): resample with replacement, take the middle of the medians.

    Each resample has `effective_count(samples)` members: for samples in the order they were taken, without memory of
    each other, that is all of them.
    Seeded, so equal samples give equal bounds. One sample has no interval: (None, None).
    """
    _require(samples)
    if len(samples) == 1:
        return None, None
    tail = 100 * (1 - confidence) / 2
    return _interval(tuple(samples), tail, resamples, seed)


def ci_width(samples: Sequence[float]) -> float | None:
    """Width of the 95 % interval of the median over the median; None below two samples."""
    low, high = bootstrap_median_ci(samples)
    middle = median(samples)
    return None if low is None or high is None or not middle else (high - low) / middle


def bootstrap_ratio_ci(
    over: Sequence[float], under: Sequence[float], confidence: float = 0.95, resamples: int = 2000, seed: int = 42
) -> tuple[float, float] | tuple[None, None]:
    """Of median(over) / median(under), two independent sets of samples: both are resampled, each for itself.

    (None, None) when one of the sets has a single sample, or medians of 0 to divide by.
    """
    _require(over)
    _require(under)
    below = _resampled_medians(under, resamples, seed + 1)
    if len(over) == 1 or len(under) == 1 or not below.all():
        return None, None
    tail = 100 * (1 - confidence) / 2
    low, high = np.percentile(_resampled_medians(over, resamples, seed) / below, [tail, 100 - tail])
    return float(low), float(high)


# One report reduces the same records for its tables, its figures and its JSON: the 2000 resamples are drawn once.
@functools.lru_cache(maxsize=100_000)
def _interval(samples: tuple[float, ...], tail: float, resamples: int, seed: int) -> tuple[float, float]:
    low, high = np.percentile(_resampled_medians(samples, resamples, seed), [tail, 100 - tail])
    return float(low), float(high)


def _resampled_medians(samples: Sequence[float], resamples: int, seed: int) -> np.ndarray:
    values, random = np.asarray(samples, dtype=np.float64), np.random.default_rng(seed)
    step = max(1, _BOOTSTRAP_CHUNK // len(values))
    sizes = [min(step, resamples - start) for start in range(0, resamples, step)]
    members = effective_count(samples)
    draws = (random.integers(0, len(values), (size, members)) for size in sizes)
    return np.concatenate([np.median(values[draw], axis=1) for draw in draws])


def effective_count(samples: Sequence[float]) -> int:
    """How many independent samples these are worth: n (1 - r) / (1 + r), r the lag-1 autocorrelation of their ranks.

    That of an AR(1) process. Ranks, so that one outlier says nothing; negative r counts as 0; at least 2.
    """
    count = len(samples)
    correlation = _rank_autocorrelation(samples)
    # Below this r is what chance gives: two standard errors, 2 / sqrt(n) (Bartlett 1946).
    if correlation <= 2 / math.sqrt(count):
        return count
    return max(2, round(count * (1 - correlation) / (1 + correlation)))


def _rank_autocorrelation(samples: Sequence[float]) -> float:
    """Lag-1 autocorrelation of the ranks, equal samples sharing theirs; 0 for constant samples or fewer than 4."""
    if len(samples) < 4:
        return 0.0
    _, inverse, counts = np.unique(np.asarray(samples), return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    centered = ranks - ranks.mean()
    total = float(centered @ centered)
    return float(centered[:-1] @ centered[1:]) / total if total else 0.0


def _require(samples: Sequence[float]) -> None:
    if not len(samples):
        raise ValueError("statistics of no samples; a cell without trials has no figures")
