"""Paired bootstrap over examples, from their sufficient statistics: nothing is scored twice.

One resample is a count for every example of a split. The counts are drawn once a split, so all settings are
compared on the same resamples and a difference between two of them is a paired one.
"""

import zlib
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 1000
SEED = 12345
LEVEL = 0.95

Array = NDArray[np.float64]


class Interval(NamedTuple):
    """The two ends of an interval of a difference."""

    low: float
    high: float


def generator(*seeds: str | int) -> np.random.Generator:
    """Return a generator of random numbers that depends on `SEED` and the arguments, and on nothing else."""
    return np.random.default_rng(
        [SEED, *(s if isinstance(s, int) else zlib.crc32(s.encode()) for s in seeds)]
    )


@lru_cache(maxsize=16)  # of the splits of a run; 8 MB each a thousand examples
def resample_counts(split: str, examples: int) -> Array:
    """Return how often each resample draws each example, shape ``(RESAMPLES, examples)``.

    The draw depends on `SEED`, the name of the split (as in "news.test") and its number of examples.
    """
    uniform = np.full(examples, 1 / examples)
    return generator(split, examples).multinomial(examples, uniform, size=RESAMPLES).astype(np.float64)


def interval(resampled: Array) -> Interval:
    """Return the percentile interval of level `LEVEL` of a resampled difference."""
    with np.errstate(invalid="ignore"):  # between infinities, a destroyed model's
        low, high = np.quantile(resampled, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(float(low), float(high))


def standard_error(resampled: Array) -> float:
    """Return the bootstrap standard error of a resampled difference; NaN if it is not finite throughout."""
    return float(np.std(resampled, ddof=1)) if np.isfinite(resampled).all() else float("nan")
