"""Statistics of examples after an output temperature: what they were had all logits been divided by it.

Columns of a frame of scores let them be known, beside the groups of `nvreg.metrics`:

- ``labels``: the number of the right alternative of each choice;
- ``alternatives``: log-probabilities of the alternatives of each choice, one after the other, in nats and in
  float32. Dividing them by a temperature and normalising them is what dividing logits is, so any temperature
  can be tried;
- ``tempered``, where logits are of a vocabulary and too many to keep: the nats of the example at each of
  ``evaluation.temperatures``. Of a choice among texts it is the log-probability of its first alternative at
  each of them, then that of the second, and so on. Between temperatures that are near each other both are
  smooth, and interpolated.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Any

import numpy as np

from nvreg.metrics.classification import choice_rows
from nvreg.metrics.metric import Array

ANY = tuple(2.0 ** (step / 8) for step in range(-16, 17))
"""The temperatures that are tried where any can be, from 1/4 to 4, each 9 % above the one before."""

STEP = 1.01
"""The greatest ratio of neighbours among temperatures that are interpolated."""

FEWEST_KEPT, WIDEST, NEAREST = 5, 1.21, 6
"""Interpolation takes so many temperatures that were kept, none further from the next than by this ratio, and
is by the polynomial through so many at most."""

LABELS, ALTERNATIVES, TEMPERED = "labels", "alternatives", "tempered"
"""The columns that let them be known."""

GROUPS = frozenset({"likelihood", "text", "calibration", "classes"})
"""The groups of statistics that a temperature may change."""

SHOWN = GROUPS - {"classes"}
"""Those whose metrics have tables after temperature."""


def alternatives_of(
    log_probabilities: Sequence[Array], labels: Sequence[int | Sequence[int]]
) -> dict[str, Any]:
    """Return the columns ``labels`` and ``alternatives`` of examples.

    Args:
        log_probabilities: the nats of each example, [alternatives] or [choices, alternatives].
        labels: the label of each example: the number of the right alternative, or one a choice.
    """
    return {
        LABELS: [np.atleast_1d(np.asarray(each, dtype=np.int32)) for each in labels],
        ALTERNATIVES: [each.astype(np.float32).ravel() for each in log_probabilities],
    }


def softening(temperature: float) -> float:
    """Return how strongly dividing logits by a temperature regularises: its logarithm, and 0 below 1.

    What sharpens a model makes it surer, which is no regularisation.
    """
    return max(0.0, math.log(temperature))


def temperatures_of(columns: Collection[str], kept: Sequence[float]) -> tuple[float, ...]:
    """Return the temperatures at which statistics can be had, ascending; 1 alone where nothing was kept.

    Those that were kept are among them, and the first and the last of them are the ends.

    Args:
        columns: the columns of a frame of scores.
        kept: the evaluation's temperatures.
    """
    if TEMPERED in columns:
        return _with_those_between(tuple(kept))
    return ANY if ALTERNATIVES in columns else (1.0,)


def columns_needed(group: str, is_plain: bool, names: Collection[str]) -> list[str]:
    """Return the columns that `statistics_at` reads.

    Args:
        group: a group of statistics.
        is_plain: whether the temperature is 1.
        names: the columns that a frame of scores has.

    Raises:
        KeyError: with the column that is missing.
    """
    is_stored = group in names
    if is_stored and (is_plain or group not in GROUPS):
        return [group]
    if group not in GROUPS or not {TEMPERED, ALTERNATIVES} & set(names):
        raise KeyError(group if not is_stored else ALTERNATIVES)
    return [name for name in (group, LABELS, ALTERNATIVES, TEMPERED) if name in names]


def statistics_at(
    columns: Mapping[str, Array], group: str, temperature: float, kept: Sequence[float]
) -> Array:
    """Return the statistics of a group after a temperature: [examples, k], as `statistics_of` has them.

    Args:
        columns: what `columns_needed` names, each as `statistics_of` returns it.
        group: which; one that no temperature changes is returned as it is.
        temperature: what logits are divided by, one of `temperatures_of`; at 1 the rows are those that were
            stored, to the bit.
        kept: the evaluation's temperatures.
    """
    if group in columns and (temperature == 1 or group not in GROUPS):
        return columns[group]
    if LABELS not in columns:
        nats = _at(columns[TEMPERED], temperature, kept)
        return np.column_stack([nats, columns[group][:, 1:]])
    labels = columns[LABELS]
    exists = ~np.isnan(labels)  # a label is never NaN, and a probability may be
    examples, choices = labels.shape
    if TEMPERED in columns:
        by_alternative = columns[TEMPERED].reshape(examples, -1, len(kept))
        log_probabilities = _padded(_at(by_alternative, temperature, kept))
    else:
        width = columns[ALTERNATIVES].shape[1] // max(1, choices) or 1  # there may be no choice at all
        of_choices = columns[ALTERNATIVES].reshape(examples, choices, width)[exists]
        log_probabilities = _log_softmax(_padded(of_choices) / temperature)
    rows = choice_rows(log_probabilities, labels[exists].astype(np.int64))[group]
    by_choice = np.full((examples, choices, rows.shape[1]), 0.0 if group == "likelihood" else np.nan)
    by_choice[exists] = rows
    return by_choice.sum(axis=1) if group == "likelihood" else by_choice.reshape(examples, -1)


def at_best(columns: Mapping[str, Array], group: str, kept: Sequence[float]) -> Array:
    """Return the statistics of a group at the temperature that suits the examples best, by their nll.

    Args:
        columns: as in `statistics_at`, with the group itself among them.
        group: which.
        kept: the evaluation's temperatures.
    """
    likelihood = "likelihood" if LABELS in columns else group
    nats = {
        temperature: statistics_at(columns, likelihood, temperature, kept)[:, 0].sum()
        for temperature in temperatures_of(columns, kept)
    }
    return statistics_at(columns, group, min(nats, key=lambda temperature: nats[temperature]), kept)


def _with_those_between(kept: tuple[float, ...]) -> tuple[float, ...]:
    """Return temperatures, ascending, with others between them where these can be interpolated."""
    pairs = list(pairwise(kept))
    if len(kept) < FEWEST_KEPT or max(after / before for before, after in pairs) > WIDEST:
        return kept
    between = []
    for start, end in pairs:
        steps = math.ceil(math.log(end / start) / math.log(STEP))
        if steps > 1 and len(_nodes(start, end, kept)) >= FEWEST_KEPT:
            between += [round(start * (end / start) ** (step / steps), 6) for step in range(1, steps)]
    return tuple(sorted({*kept, *between}))


def _nodes(start: float, end: float, kept: tuple[float, ...]) -> list[float]:
    """Return the kept temperatures by which those between two neighbours are interpolated.

    They are the nearest that are half as far from each other as the two are, or further: through some that
    lie close together, a polynomial multiplies their rounding beyond all bounds a little further on.
    """
    nodes, apart = [start, end], math.log(end / start) / 2 * (1 - 1e-9)
    middle = math.sqrt(start * end)
    for each in sorted(kept, key=lambda each: abs(math.log(each / middle))):
        if len(nodes) < NEAREST and all(abs(math.log(each / node)) >= apart for node in nodes):
            nodes.append(each)
    return nodes


def _at(values: Array, temperature: float, kept: Sequence[float]) -> Array:
    """Return the values at a temperature, given those at each that was kept: [..., kept] to [...]."""
    if temperature in kept:
        return values[..., list(kept).index(temperature)]
    with np.errstate(invalid="ignore"):  # infinite nats are a destroyed model's
        interpolated: Array = values @ np.array(_shares(temperature, tuple(kept)))
    return interpolated


@lru_cache(maxsize=1024)
def _shares(temperature: float, kept: tuple[float, ...]) -> tuple[float, ...]:
    """Return how much of the value at each kept temperature is in that at one between them.

    The log-sum-exp of divided logits is analytic in the temperature, so values are taken from the polynomial
    in its logarithm through the nearest temperatures (Lagrange). In the reciprocal, whose steps grow towards
    low temperatures, errors at the ends are ten times those.
    """
    above = next(place for place, each in enumerate(kept) if each > temperature)
    nodes = _nodes(kept[above - 1], kept[above], kept)
    shares = [0.0] * len(kept)
    for node in nodes:
        others = [each for each in nodes if each != node]
        shares[kept.index(node)] = math.prod(
            math.log(temperature / each) / math.log(node / each) for each in others
        )
    return tuple(shares)


def _padded(log_probabilities: Array) -> Array:
    """Write -inf for alternatives that a choice has not, but where all are NaN, a destroyed model's."""
    absent = np.isnan(log_probabilities) & ~np.isnan(log_probabilities[:, :1])
    return np.where(absent, -np.inf, log_probabilities)


def _log_softmax(values: Array) -> Array:
    shifted = values - values.max(axis=-1, keepdims=True, initial=-np.inf)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
