"""Metrics of a choice among classes, or among the answers to a question.

The groups and their columns:

- ``classes``: the right class and the predicted one, by number;
- ``calibration``: probability of the predicted class, 1 if it is right and else 0, Brier score (1950), the
  squared error summed over classes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nvreg.metrics.metric import Array, Metric

BINS = 15


def choice_statistics(
    log_probabilities: Sequence[Array], labels: Sequence[int]
) -> dict[str, list[list[float]]]:
    """Return the rows of ``likelihood``, ``calibration`` and ``classes`` of choices among alternatives.

    Args:
        log_probabilities: log-probabilities of each example's alternatives, [alternatives], in nats.
        labels: which alternative is right, by number.
    """
    rows: dict[str, list[list[float]]] = {"likelihood": [], "calibration": [], "classes": []}
    for alternatives, label in zip(log_probabilities, labels, strict=True):
        probabilities, chosen = np.exp(alternatives), int(alternatives.argmax())
        right = np.arange(len(alternatives)) == label
        brier = float(np.square(probabilities - right).sum())
        rows["likelihood"].append([-float(alternatives[label]), 1.0, 0.0])
        rows["calibration"].append([float(probabilities[chosen]), float(chosen == label), brier])
        rows["classes"].append([float(label), float(chosen)])
    return rows


def _is_right(statistics: Array) -> Array:
    return (statistics[:, 0] == statistics[:, 1]).astype(np.float64)


def _macro_f1(statistics: Array, counts: Array) -> Array:
    """Unweighted mean of F1 over the classes that a resample has, as labels or as predictions."""
    is_label, is_predicted = (column[:, None] == np.unique(statistics) for column in statistics.T)
    both = counts @ (is_label & is_predicted)
    either = counts @ (is_label.astype(np.float64) + is_predicted)
    present = either > 0
    return np.where(present, 2 * both / np.where(present, either, 1), 0).sum(axis=-1) / present.sum(axis=-1)


def _ece(statistics: Array, counts: Array) -> Array:
    """Mean distance of accuracy from confidence over `BINS` bins (Naeini et al., 2015) of equal mass.

    A bin may hold a part of an example, and examples of equal confidence share theirs evenly, so that the
    result depends on neither their order nor whether the number of examples is a multiple of that of bins.
    """
    statistics, counts = statistics[order := statistics[:, 0].argsort()], counts[:, order]
    confidence, right = statistics[:, 0], statistics[:, 1]
    last_of_equals = np.append(confidence[1:] > confidence[:-1], True)
    scores = np.empty(len(counts))
    for resample, count in enumerate(counts):
        mass = np.append(0, count.cumsum(dtype=np.float64)[last_of_equals])
        gap = np.append(0, (count * (right - confidence)).cumsum()[last_of_equals])
        edges = np.linspace(0, mass[-1], BINS + 1)
        scores[resample] = np.abs(np.diff(np.interp(edges, mass, gap))).sum() / mass[-1]
    return scores


def _brier(statistics: Array) -> Array:
    return statistics[:, 2]


ACCURACY = Metric("accuracy", "classes", True, lambda _: "mean:examples", _is_right)
MACRO_F1 = Metric("macro-f1", "classes", True, lambda _: "mean:classes|absent:left-out", of_corpus=_macro_f1)
ECE = Metric(
    "ece",
    "calibration",
    False,
    lambda _: f"bins:{BINS}|equal:mass|of:predicted-class",
    of_corpus=_ece,
)
BRIER = Metric("brier", "calibration", False, lambda _: "sum:classes|mean:examples", _brier)
