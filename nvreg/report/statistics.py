"""Paired bootstrap over examples, on summed sufficient statistics: nothing is scored twice.

One resample is a count for every example of a test set. The counts are drawn once a domain, so all settings
are compared on the same resamples and a difference between two of them is a paired one.
"""

import zlib
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from nvreg.tasks.metrics import Metric

RESAMPLES = 1000
SEED = 12345
LEVEL = 0.95

Array = NDArray[np.float64]


class Interval(NamedTuple):
    """The two ends of an interval of a difference."""

    low: float
    high: float


@cache
def resample_counts(domain: str, examples: int) -> NDArray[np.uint16]:
    """Return how often each resample draws each example, shape ``(RESAMPLES, examples)``.

    The draw depends on `SEED`, the name of the domain and its number of examples, and on nothing else.
    """
    rng = np.random.default_rng([SEED, zlib.crc32(domain.encode()), examples])
    return rng.multinomial(examples, np.full(examples, 1 / examples), size=RESAMPLES).astype(np.uint16)


def paired_differences(metric: Metric, setting: Array, pretrained: Array, domain: str) -> Array:
    """Return the score of a setting minus the pretrained model's on each resample, shape ``(RESAMPLES,)``.

    Args:
        metric: what to score.
        setting: sufficient statistics of the setting, one row an example, shape ``(examples, k)``.
        pretrained: the same of the pretrained model, the examples in the same order.
        domain: where the examples are from; decides the resamples.
    """
    counts = resample_counts(domain, len(pretrained))
    with np.errstate(over="ignore", invalid="ignore"):  # a destroyed model's perplexity may be infinite
        return metric.aggregate(counts @ setting) - metric.aggregate(counts @ pretrained)


def interval(resampled: Array) -> Interval:
    """Return the percentile interval of level `LEVEL` of a resampled difference."""
    low, high = np.quantile(resampled, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(float(low), float(high))


def standard_error(resampled: Array) -> float:
    """Return the bootstrap standard error of a resampled difference; NaN if it is not finite throughout."""
    return float(np.std(resampled, ddof=1)) if np.isfinite(resampled).all() else float("nan")
