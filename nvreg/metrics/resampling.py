"""Intervals of paired differences, from the statistics of examples, and p-values corrected for their number.

An interval is of the paired bootstrap over examples. One resample is a count for every example of a split;
the counts are drawn once a split, so all settings are compared on the same resamples. Nothing is scored
twice.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from nvreg.metrics.randomisation import seeded_generator

RESAMPLES = 1000
"""Resamples of a bootstrap."""

LEVEL = 0.95
"""The level of intervals."""

FEWEST = 10
"""The least number of examples with intervals, tests and verdicts.

With fewer, an interval of `LEVEL` covers the mean of even normal differences less than nine times in ten;
with five, no test by swaps gets below 0.05.
"""

Array = NDArray[np.float64]


class Interval(NamedTuple):
    """The two ends of an interval of a difference."""

    low: float
    high: float


@lru_cache(maxsize=16)  # the splits of a run; 8 MB each a thousand examples
def resample_counts(split: str, examples: int) -> Array:
    """Return how often each resample draws each example, shape ``(RESAMPLES, examples)``.

    The draw depends on `SEED`, the name of the split (as in "news.test") and its number of examples.
    """
    uniform = np.full(examples, 1 / examples)
    return seeded_generator(split, examples).multinomial(examples, uniform, size=RESAMPLES).astype(np.float64)


def interval(resampled: Array) -> Interval:
    """Return the percentile interval of level `LEVEL` of a resampled difference."""
    with np.errstate(invalid="ignore"):  # between infinities, a destroyed model's
        low, high = np.quantile(resampled, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(float(low), float(high))


def standard_error(resampled: Array) -> float:
    """Return the bootstrap standard error of a resampled difference; NaN if it is not finite throughout."""
    return float(np.std(resampled, ddof=1)) if np.isfinite(resampled).all() else float("nan")


def holm(p_values: Sequence[float]) -> list[float]:
    """Return the p-values of a family of tests corrected by Holm's method (1979), NaN where one is NaN."""
    corrected = np.full(len(p_values), np.nan)
    order = [place for place in np.argsort(p_values) if not np.isnan(p_values[place])]
    smallest = 0.0
    for rank, place in enumerate(order):
        smallest = max(smallest, min(1.0, (len(order) - rank) * p_values[place]))
        corrected[place] = smallest
    return corrected.tolist()
