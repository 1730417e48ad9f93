"""Metrics of choices among classes or answers, one an example or one a word, and of the entities of tags.

The groups and their columns, which an example has for each of its choices, one after the other:

- ``classes``: the right class and the predicted one, by number;
- ``calibration``: probability of the predicted class, 1 if it is right and else 0, Brier score (1950), the
  squared error summed over classes;
- ``entities``, once an example: how many entities the predicted tags have, the right ones, and both.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.metadata import version

import numpy as np
from numpy.typing import NDArray

from nvreg.metrics.metric import Array, Metric, OfCorpus, OfExamples, of_sums

BINS = 15

CACHED = 2**16
"""How many counts the calibration error reads at once: they stay in a processor's cache."""

CLASSES, CALIBRATION = 2, 3
"""How many columns a choice has in the groups ``classes`` and ``calibration``."""

_GROUPS = ("likelihood", "calibration", "classes")  # the groups of choices


def choice_statistics(
    log_probabilities: Sequence[Array], labels: Sequence[int]
) -> dict[str, list[list[float]]]:
    """Return the rows of ``likelihood``, ``calibration`` and ``classes`` of choices among alternatives.

    Args:
        log_probabilities: log-probabilities of each choice's alternatives, [alternatives], in nats.
        labels: which alternative is right, by number.
    """
    parts = [
        choice_rows(alternatives[None], np.array([label]))
        for alternatives, label in zip(log_probabilities, labels, strict=True)
    ]
    return {group: [part[group][0].tolist() for part in parts] for group in _GROUPS}


def word_statistics(
    log_probabilities: Array, labels: Sequence[int], words: Sequence[int]
) -> dict[str, list[list[float]]]:
    """Return the same of examples that have a choice for each of their words: rows of different lengths.

    Args:
        log_probabilities: log-probabilities in nats, [words, classes], of each example's words in turn.
        labels: the number of each word's right class.
        words: how many words each example has.
    """
    ends = np.cumsum(words)[:-1]
    of_words = choice_rows(log_probabilities, np.array(labels, dtype=np.int64))
    of_examples = {group: np.split(of_words[group], ends) for group in _GROUPS}
    return {
        group: [(each.sum(axis=0) if group == "likelihood" else each.ravel()).tolist() for each in rows]
        for group, rows in of_examples.items()
    }


def choice_rows(log_probabilities: Array, labels: Array) -> dict[str, Array]:
    """Return the rows of each group of choices, one a choice.

    Args:
        log_probabilities: the nats of every choice's alternatives, -inf where it has fewer: [choices, k].
        labels: which alternative is right, by number: [choices]. Below 0 it is not known: the rows are NaN.
    """
    probabilities, chosen = np.exp(log_probabilities), log_probabilities.argmax(axis=-1)
    right = np.arange(log_probabilities.shape[-1]) == labels[:, None]
    each = np.arange(len(labels))
    brier = np.square(probabilities - right).sum(axis=-1)
    one, none = np.ones(len(labels)), np.zeros(len(labels))
    nats = -np.take_along_axis(log_probabilities, np.maximum(labels, 0)[:, None], axis=-1)[:, 0]
    rows = {
        "likelihood": np.stack([nats, one, none], axis=-1),
        "calibration": np.stack([probabilities[each, chosen], chosen == labels, brier], axis=-1),
        "classes": np.stack([labels, chosen], axis=-1).astype(np.float64),
    }
    return {group: np.where(labels[:, None] < 0, np.nan, row) for group, row in rows.items()}


def entity_statistics(tags: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]]) -> list[list[float]]:
    """Return the rows of ``entities`` of examples, given the tags of their words.

    Entities are those of conlleval, as seqeval has them: tags begin with B-, I-, E- or S- or are O, and an I-
    after another entity, or after none, begins one too.
    """
    from seqeval.metrics.sequence_labeling import get_entities  # imports scikit-learn, a second

    rows = []
    for pair in zip(predicted, tags, strict=True):
        found, right = (set(get_entities(list(each))) for each in pair)
        rows.append([float(len(each)) for each in (found, right, found & right)])
    return rows


def names_entities(tag: str) -> bool:
    """Return whether a tag is one of those that `entity_statistics` reads."""
    return tag in ("O", "B", "I", "E", "S") or tag.startswith(("B-", "I-", "E-", "S-"))


def _by_choice(statistics: Array, columns: int) -> tuple[Array, NDArray[np.bool_]]:
    """Return the columns of every choice, [examples, choices, columns], and which choices there are.

    The second column is never NaN but where an example has fewer choices: a confidence may be.
    """
    choices = statistics.reshape(len(statistics), statistics.shape[1] // columns, columns)
    return choices, ~np.isnan(choices[..., 1])


def _mean_of_choices(columns: int, of_choices: Callable[[Array], Array]) -> tuple[OfExamples, OfCorpus]:
    """Return the mean score of an example's choices, and that of all choices of a corpus."""

    def sums(statistics: Array) -> tuple[Array, Array]:
        choices, exists = _by_choice(statistics, columns)
        return np.where(exists, of_choices(choices), 0).sum(axis=-1), exists.sum(axis=-1).astype(np.float64)

    def of_examples(statistics: Array) -> Array:
        total, number = sums(statistics)
        return total / np.maximum(1, number)

    def of_corpus(statistics: Array, counts: Array) -> Array:
        total, number = sums(statistics)
        return counts @ total / (counts @ number)

    return of_examples, of_corpus


def _macro_f1(statistics: Array, counts: Array) -> Array:
    """Unweighted mean of F1 over the classes that a resample has, as labels or as predictions."""
    choices, exists = _by_choice(statistics, CLASSES)
    classes = np.unique(choices[exists])
    is_label, is_predicted = (choices[..., column, None] == classes for column in range(CLASSES))
    both = counts @ (is_label & is_predicted).sum(axis=1)
    either = counts @ (is_label.sum(axis=1) + is_predicted.sum(axis=1))
    present = either > 0
    return np.where(present, 2 * both / np.where(present, either, 1), 0).sum(axis=-1) / present.sum(axis=-1)


def _ece(statistics: Array, counts: Array) -> Array:
    """Mean distance of accuracy from confidence over `BINS` bins (Naeini et al., 2015) of equal mass.

    A bin may hold a part of a choice, and choices of equal confidence share theirs evenly, so that the result
    depends on neither their order nor whether the number of choices is a multiple of that of bins.
    """
    choices, exists = _by_choice(statistics, CALIBRATION)
    example, choice = np.nonzero(exists)
    if not len(example):
        return np.full(len(counts), np.nan)
    order = choices[example, choice, 0].argsort()
    example, choice = example[order], choice[order]
    confidence, right, _ = choices[example, choice].T
    gaps = right - confidence
    (last_of_equals,) = np.append(confidence[1:] > confidence[:-1], True).nonzero()
    scores = np.empty(len(counts))
    at_once = max(1, CACHED // len(example))
    sums = np.zeros((2, at_once, len(last_of_equals) + 1))
    for start in range(0, len(counts), at_once):
        count = counts[start : start + at_once].take(example, axis=1)
        mass, gap = sums[:, : len(count)]
        for of, below in ((count, mass), (count * gaps, gap)):
            if len(last_of_equals) == len(example):
                of.cumsum(axis=1, out=below[:, 1:])
            else:
                below[:, 1:] = of.cumsum(axis=1).take(last_of_equals, axis=1)
        edges = np.linspace(0, mass[:, -1], BINS + 1, axis=1)
        bins = np.diff(_interpolated(edges, mass, gap), axis=1)
        scores[start : start + at_once] = np.abs(bins).sum(axis=1) / mass[:, -1]
    return scores


def _interpolated(places: Array, known: Array, values: Array) -> Array:
    """Return what `np.interp` does, for every row at once: from [rows, n] and twice [rows, k] to [rows, n].

    Places are within what is known, which is whole numbers that ascend in each row: rows one behind the other
    ascend too, and are searched as one.
    """
    rows, width = np.arange(len(known))[:, None], known.shape[1]
    offsets = rows * (known[:, -1].max(initial=0) + 1)
    found = (known + offsets).ravel().searchsorted((places + offsets).ravel(), side="right")
    left = np.clip(found.reshape(places.shape) - rows * width - 1, 0, width - 1)
    right = np.minimum(left + 1, width - 1)
    (x0, x1), (y0, y1) = (
        [np.take_along_axis(of, at, axis=1) for at in (left, right)] for of in (known, values)
    )
    slopes = np.divide(y1 - y0, x1 - x0, out=np.zeros_like(x0), where=x1 > x0)
    return slopes * (places - x0) + y0


def _f1(sums: Array) -> Array:
    """F1 of entities, 0 where there are none, as seqeval has it."""
    either = sums[..., 0] + sums[..., 1]
    return np.where(either > 0, 2 * sums[..., 2] / np.where(either > 0, either, 1), 0)


def _f1_of_examples(statistics: Array) -> Array:
    """An example without entities is right where none are predicted."""
    return np.where(statistics[:, :2].any(axis=-1), _f1(statistics), 1)


def _f1_signature(_: object) -> str:
    return f"entities|micro|as:conlleval|version:{version('seqeval')}"


ACCURACY = Metric(
    "accuracy",
    "classes",
    True,
    lambda _: "mean:examples",
    *_mean_of_choices(CLASSES, lambda choices: choices[..., 0] == choices[..., 1]),
)
MACRO_F1 = Metric("macro-f1", "classes", True, lambda _: "mean:classes|absent:left-out", of_corpus=_macro_f1)
F1 = Metric("f1", "entities", True, _f1_signature, _f1_of_examples, of_sums(_f1))
ECE = Metric(
    "ece",
    "calibration",
    False,
    lambda _: f"bins:{BINS}|equal:mass|of:predicted-class",
    of_corpus=_ece,
)
BRIER = Metric(
    "brier",
    "calibration",
    False,
    lambda _: "sum:classes|mean:examples",
    *_mean_of_choices(CALIBRATION, lambda choices: choices[..., 2]),
)
