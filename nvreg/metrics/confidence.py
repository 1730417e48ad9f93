"""Accuracy on text without labels, estimated from how confident a model is there and on text with labels.

An estimate is fitted to a set that has labels: it takes the log-probabilities of classes there, [examples,
classes], which examples are right, and how often each resample draws each of them, [resamples, examples].
What it returns takes log-probabilities and counts of a set without labels, and gives an accuracy a resample.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from nvreg.metrics.metric import Array
from nvreg.metrics.temperature import ANY

Fitted = Callable[[Array, Array], Array]
Estimate = Callable[[Array, NDArray[np.bool_], Array], Fitted]


def average_thresholded_confidence(
    log_probabilities: Array, right: NDArray[np.bool_], counts: Array
) -> Fitted:
    """Estimate accuracy as the share of examples that are more confident than a threshold.

    The threshold is such that on the labelled set as many examples do not pass it as are wrong (Garg et al.,
    2022, arXiv 2201.04234). Confidence is the log-odds of the predicted class, which does not saturate as its
    probability does.

    Args:
        log_probabilities: on the set with labels.
        right: whether the predicted class is right.
        counts: the counts of the resamples.
    """
    known = _log_odds(log_probabilities)
    order = known.argsort(kind="stable")
    drawn = counts[:, order]
    fails = (drawn.cumsum(axis=-1) - drawn < (counts @ ~right)[:, None]) & (drawn > 0)
    last = np.where(fails, np.arange(1, len(known) + 1), 0).max(axis=-1)
    thresholds = np.append(-np.inf, known[order])[last]

    def estimate(log_probabilities: Array, counts: Array) -> Array:
        asked = _log_odds(log_probabilities)
        order = asked.argsort(kind="stable")
        failed = np.append(np.zeros((len(counts), 1)), counts[:, order].cumsum(axis=-1), axis=-1)
        places = np.searchsorted(asked[order], thresholds, side="right")
        return 1 - failed[np.arange(len(counts)), places] / failed[:, -1]

    return estimate


def tempered_confidence(log_probabilities: Array, right: NDArray[np.bool_], counts: Array) -> Fitted:
    """Estimate accuracy as the mean confidence at the temperature that suits the labelled set best.

    It is the one of `nvreg.metrics.temperature.ANY` at which the probabilities of the predicted classes make
    what is right and wrong there likeliest (temperature scaling: Guo et al., 2017, arXiv 1706.04599).

    Args:
        log_probabilities: on the set with labels.
        right: whether the predicted class is right.
        counts: the counts of the resamples.
    """
    known = np.stack([_log_odds(log_probabilities / temperature) for temperature in ANY])
    best = (counts @ np.logaddexp(0, np.where(right, -known, known)).T).argmin(axis=-1)

    def estimate(log_probabilities: Array, counts: Array) -> Array:
        asked = np.stack([_log_odds(log_probabilities / temperature) for temperature in ANY])
        means = counts @ (1 / (1 + np.exp(-asked))).T / counts.sum(axis=-1, keepdims=True)
        return np.take_along_axis(means, best[:, None], axis=-1)[:, 0]

    return estimate


def _log_odds(logits: Array) -> Array:
    """Return the log-odds of the likeliest class of each example, given log-probabilities or logits."""
    ordered = np.sort(logits, axis=-1)
    return ordered[:, -1] - np.logaddexp.reduce(ordered[:, :-1], axis=-1)
