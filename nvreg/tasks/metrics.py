"""Metrics as functions of summed per-example statistics, so that nothing is ever scored twice.

A group is a set of sufficient statistics: each example has a row of them, and every metric of the group is a
function of their sum over examples. The groups and their columns:

- ``likelihood``: negative log-likelihood in nats, scored tokens, characters of the scored text;
- ``bleu``: words of the prediction and of the reference, then matching and all predicted n-grams of each
  order 1 to 4, as sacrebleu counts them;
- ``chrf``: n-grams of the prediction, of the reference and in both, for each order 1 to 6 of characters.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from sacrebleu.metrics import BLEU, CHRF

from nvreg.errors import UserError

if TYPE_CHECKING:
    from pandas import DataFrame

Array = NDArray[np.float64]
Aggregate = Callable[[Array], Array]


@dataclass(frozen=True)
class Metric:
    """A corpus score.

    Attributes:
        name: as in an experiment file.
        group: the statistics it needs, a column of a task's frame of scores.
        higher_is_better: None where neither direction is better.
        aggregate: from sums of statistics [..., k] to scores [...].
        signature: describes every choice that changes the score.
    """

    name: str
    group: str
    higher_is_better: bool | None
    aggregate: Aggregate
    signature: Callable[[], str]


def text_statistics(group: str, predictions: Sequence[str], references: Sequence[str]) -> Array:
    """Return the statistics of a group in `GENERATED`, one row an example: [examples, k]."""
    rows = _SACREBLEU[group]._extract_corpus_statistics(predictions, [references])
    return np.asarray(rows, dtype=np.float64)


def score(frame: DataFrame, name: str) -> float:
    """Return the metric of that name over all examples of a task's frame of scores."""
    metric = METRICS[name]
    return float(metric.aggregate(np.stack(frame[metric.group].to_list()).sum(axis=0)))


def check_metrics(names: Sequence[str]) -> None:
    """Check that there are metrics of these names.

    Raises:
        UserError: if there is none of some name; it lists those that exist.
    """
    for name in names:
        if name not in METRICS:
            raise UserError(f"evaluation.metrics: expected some of {', '.join(METRICS)}, received {name!r}")


def _nll(sums: Array) -> Array:
    return sums[..., 0] / sums[..., 1]


def _perplexity(sums: Array) -> Array:
    with np.errstate(over="ignore"):
        return np.exp(_nll(sums))


def _bits_per_character(sums: Array) -> Array:
    with np.errstate(divide="ignore", invalid="ignore"):
        return sums[..., 0] / sums[..., 2] / np.log(2)


def _bleu(sums: Array) -> Array:
    """BLEU (Papineni et al., 2002), where the k-th order without a match counts as 1/2^k of one."""
    predicted, reference = sums[..., 0], sums[..., 1]
    matches, totals = sums[..., 2:6], sums[..., 6:10]
    with np.errstate(divide="ignore", invalid="ignore"):
        missed = matches == 0
        precision = np.where(missed, 0.5 ** missed.cumsum(axis=-1), matches) / totals
        brevity = np.exp(np.minimum(0, 1 - reference / predicted))
        bleu = 100 * brevity * np.exp(np.log(precision).mean(axis=-1))
    return np.where(missed.all(axis=-1) | (totals == 0).any(axis=-1), 0.0, bleu)


def _chrf(sums: Array, beta: float = CHRF.BETA) -> Array:
    """F-beta of character n-grams, chrF (Popovic, 2015), from means over the orders that both texts have."""
    orders = sums.reshape(*sums.shape[:-1], -1, 3)
    predicted, reference, matches = orders[..., 0], orders[..., 1], orders[..., 2]
    counted = (predicted > 0) & (reference > 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        precision = np.where(counted, matches / predicted, 0).sum(axis=-1) / counted.sum(axis=-1)
        recall = np.where(counted, matches / reference, 0).sum(axis=-1) / counted.sum(axis=-1)
        f_score = (1 + beta**2) * precision * recall / (beta**2 * precision + recall)
    return 100 * np.nan_to_num(f_score, nan=0.0)


def _length_ratio(sums: Array) -> Array:
    with np.errstate(divide="ignore", invalid="ignore"):
        return sums[..., 0] / sums[..., 1]


_SACREBLEU = {"bleu": BLEU(force=True), "chrf": CHRF()}  # force: no warning where text looks tokenised


def _sacrebleu_signature(group: str) -> Callable[[], str]:
    def signature() -> str:
        text_statistics(group, [""], [""])  # the number of references is known only after scoring
        return str(_SACREBLEU[group].get_signature())

    return signature


GENERATED = frozenset(_SACREBLEU)
"""The groups that need generated text."""

METRICS = {
    metric.name: metric
    for metric in (
        Metric("nll", "likelihood", False, _nll, lambda: "unit:nat|per:token|eos:scored"),
        Metric("perplexity", "likelihood", False, _perplexity, lambda: "exp:nll|per:token|eos:scored"),
        Metric(
            "bits-per-character",
            "likelihood",
            False,
            _bits_per_character,
            lambda: "unit:bit|per:character|eos:scored",
        ),
        Metric("bleu", "bleu", True, _bleu, _sacrebleu_signature("bleu")),
        Metric("chrf", "chrf", True, _chrf, _sacrebleu_signature("chrf")),
        Metric("length-ratio", "bleu", None, _length_ratio, _sacrebleu_signature("bleu")),
    )
}
