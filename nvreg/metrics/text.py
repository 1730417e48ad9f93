"""Metrics of generated text against a reference, by sacrebleu and rouge-score.

The groups and their columns:

- ``bleu``: words of the prediction and of the reference, then matching and all predicted n-grams of each
  order 1 to 4, as sacrebleu counts them;
- ``chrf``: n-grams of the prediction, of the reference and in both, for each order 1 to 6 of characters;
- ``rouge1``, ``rouge2``, ``rougeL``, ``rougeLsum``: the F-measure;
- ``overlap``: the columns of ``bleu`` or of ``rougeL``, with the pretrained model's text as the reference.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from importlib.metadata import version
from typing import TYPE_CHECKING

import numpy as np
from sacrebleu.metrics import BLEU, CHRF

from nvreg.metrics.metric import Array, Metric, mean_of, of_sums

if TYPE_CHECKING:
    from pandas import DataFrame

ROUGE = ("rouge1", "rouge2", "rougeL", "rougeLsum")

GENERATED = frozenset({"bleu", "chrf", *ROUGE, "overlap"})
"""The groups that need generated text."""

_SACREBLEU = {"bleu": BLEU(force=True), "chrf": CHRF()}  # force: no warning where text looks tokenised

OVERLAP = {"translation": "bleu", "summarisation": "rougeL"}
"""Task to the metric that ``overlap`` is in it."""


def text_statistics(group: str, predictions: Sequence[str], references: Sequence[str]) -> Array:
    """Return the statistics of a group of generated text, one row an example: [examples, k]."""
    if group in _SACREBLEU:
        rows = _SACREBLEU[group]._extract_corpus_statistics(predictions, [references])
        return np.asarray(rows, dtype=np.float64)
    from rouge_score.rouge_scorer import RougeScorer  # a second to import

    scorer = RougeScorer([group], use_stemmer=True)
    pairs = zip(references, predictions, strict=True)
    return np.array([[scorer.score(*pair)[group].fmeasure] for pair in pairs])


def with_overlap(frame: DataFrame, pretrained: DataFrame, task: str) -> DataFrame:
    """Return a task's frame of scores with the column "overlap".

    Args:
        frame: of any model, with its predictions.
        pretrained: of the pretrained model on the same examples.
        task: translation, where overlap is BLEU, or summarisation, where it is ROUGE-L.
    """
    rows = text_statistics(OVERLAP[task], list(frame["prediction"]), list(pretrained["prediction"]))
    return frame.assign(overlap=rows.tolist())


def _bleu(statistics: Array, effective_order: bool = False) -> Array:
    """BLEU (Papineni et al., 2002), where the k-th order without a match counts as 1/2^k of one.

    ``effective_order`` leaves out the orders that a prediction is too short for, as sacrebleu does with
    sentences.
    """
    predicted, reference = statistics[..., 0], statistics[..., 1]
    matches, totals = statistics[..., 2:6], statistics[..., 6:10]
    counted = totals > 0 if effective_order else np.ones_like(totals, dtype=bool)
    with np.errstate(divide="ignore", invalid="ignore"):
        missed = matches == 0
        precision = np.where(missed, 0.5 ** missed.cumsum(axis=-1), matches) / totals
        brevity = np.exp(np.minimum(0, 1 - reference / predicted))
        mean = np.where(counted, np.log(precision), 0).sum(axis=-1) / counted.sum(axis=-1)
        bleu = 100 * brevity * np.exp(mean)
    return np.where(missed.all(axis=-1) | (counted & (totals == 0)).any(axis=-1), 0.0, bleu)


def _chrf(statistics: Array, beta: float = CHRF.BETA) -> Array:
    """F-beta of character n-grams, chrF (Popovic, 2015), from means over the orders that both texts have."""
    orders = statistics.reshape(*statistics.shape[:-1], -1, 3)
    predicted, reference, matches = orders[..., 0], orders[..., 1], orders[..., 2]
    counted = (predicted > 0) & (reference > 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        precision = np.where(counted, matches / predicted, 0).sum(axis=-1) / counted.sum(axis=-1)
        recall = np.where(counted, matches / reference, 0).sum(axis=-1) / counted.sum(axis=-1)
        f_score = (1 + beta**2) * precision * recall / (beta**2 * precision + recall)
    return 100 * np.nan_to_num(f_score, nan=0.0)


def _f_measure(statistics: Array) -> Array:
    return statistics[:, 0]


def _overlap(statistics: Array, counts: Array) -> Array:
    of_corpus = mean_of(_f_measure) if statistics.shape[-1] == 1 else of_sums(_bleu)
    return of_corpus(statistics, counts)


def _overlap_of_examples(statistics: Array) -> Array:
    return _f_measure(statistics) if statistics.shape[-1] == 1 else _bleu(statistics, effective_order=True)


def _sacrebleu_signature(group: str) -> str:
    text_statistics(group, [""], [""])  # the number of references is known only after scoring
    return str(_SACREBLEU[group].get_signature())


def _rouge_signature(group: str) -> str:
    sentences = "|sentences:lines" if group == "rougeLsum" else ""
    return (
        f"{group}|f-measure|mean:examples|tok:a-z0-9|stem:porter{sentences}|version:{version('rouge-score')}"
    )


TEXT = (
    Metric(
        "bleu",
        "bleu",
        True,
        of_sums(_bleu),
        partial(_bleu, effective_order=True),
        partial(_sacrebleu_signature, "bleu"),
    ),
    Metric("chrf", "chrf", True, of_sums(_chrf), _chrf, partial(_sacrebleu_signature, "chrf")),
    *(
        Metric(name, name, True, mean_of(_f_measure), _f_measure, partial(_rouge_signature, name))
        for name in ROUGE
    ),
    Metric(
        "length-ratio",
        "bleu",
        None,
        of_sums(lambda sums: sums[..., 0] / sums[..., 1]),
        lambda statistics: statistics[:, 0] / np.maximum(1, statistics[:, 1]),
        partial(_sacrebleu_signature, "bleu"),
    ),
    Metric("overlap", "overlap", None, _overlap, _overlap_of_examples, lambda: "reference:pretrained"),
)
