"""Paired tests on the examples of a test set, and their correction for the number of test sets."""

from collections.abc import Sequence
from itertools import product
from typing import cast

import numpy as np
from numpy.typing import NDArray
from scipy.stats import wilcoxon

from nvreg.metrics import Metric
from nvreg.protocols import without_last_bits
from nvreg.report.statistics import RESAMPLES, Array, generator

MEANS = frozenset(
    {
        "nll",
        "perplexity",
        "bits-per-character",
        "accuracy",
        "brier",
        "rouge1",
        "rouge2",
        "rougeL",
        "rougeLsum",
    }
)
"""Metrics that are means over examples, or functions of one; of the others the corpus has a score alone."""


def name_of_test(metric: Metric) -> str:
    """Return which test `paired_p_value` does for a metric."""
    return "Wilcoxon signed-rank" if metric.name in MEANS else "approximate randomisation"


def paired_p_value(metric: Metric, ours: Sequence[Array], theirs: Sequence[Array], split: str) -> float:
    """Return the two-sided p-value of no difference between two sides on the same examples.

    By the signed ranks of differences of per-example scores (Wilcoxon 1945) where the metric is a mean of
    them, otherwise by approximate randomisation (Noreen 1989; Riezler & Maxwell 2005): how often the scores
    differ as much when the two outputs of each example are swapped by the flip of a coin.

    Args:
        metric: what is scored.
        ours: sufficient statistics of one side, ``(examples, k)``; of several settings the mean score counts.
        theirs: those of the other.
        split: where the examples are from; decides the swaps.
    """
    if metric.name in MEANS:
        both = np.stack([_mean_scores(metric, ours), _mean_scores(metric, theirs)])
        differences = without_last_bits(both[0] - both[1], _largest(both))
        return float(wilcoxon(differences).pvalue) if differences.any() else 1.0
    swapped = _swaps(split, len(ours[0]))
    pairs = product(ours, theirs)
    differences = np.mean([_swapped_difference(metric, *pair, swapped) for pair in pairs], axis=0)
    whole = np.ones((1, len(ours[0])))
    scores = np.concatenate([metric.score(statistics, whole) for statistics in (*ours, *theirs)])
    sizes = np.abs(without_last_bits(differences, _largest(scores)))
    return float(np.mean(sizes >= sizes[0]))


def holm(p_values: Sequence[float]) -> list[float]:
    """Return the p-values of a family of tests corrected by Holm's method (1979), NaN where one is NaN."""
    corrected = np.full(len(p_values), np.nan)
    order = [place for place in np.argsort(p_values) if not np.isnan(p_values[place])]
    smallest = 0.0
    for rank, place in enumerate(order):
        smallest = max(smallest, min(1.0, (len(order) - rank) * p_values[place]))
        corrected[place] = smallest
    return corrected.tolist()


def _largest(scores: Array) -> float:
    """Return the largest size of a score, infinite ones aside."""
    return float(np.abs(scores[np.isfinite(scores)]).max(initial=0))


def _mean_scores(metric: Metric, settings: Sequence[Array]) -> Array:
    return np.mean([cast(Array, metric.per_example(statistics)) for statistics in settings], axis=0)


def _swaps(split: str, examples: int) -> NDArray[np.bool_]:
    """Return which examples are swapped, shape ``(RESAMPLES, examples)``: first none, as was observed."""
    swapped = generator("swaps", split, examples).integers(2, size=(RESAMPLES, examples), dtype=np.bool_)
    swapped[0] = False
    return swapped


def _swapped_difference(metric: Metric, ours: Array, theirs: Array, swapped: NDArray[np.bool_]) -> Array:
    """Return the difference of scores under each row of swaps, shape ``[len(swapped)]``."""
    both = np.concatenate([ours, theirs])
    differences = []
    for block in np.array_split(swapped, 10):  # bounds memory: a count takes 64 times a swap
        counts = np.hstack([~block, block]).astype(np.float64)
        differences.append(metric.score(both, counts) - metric.score(both, 1 - counts))
    return np.concatenate(differences)
