"""Metrics as functions of per-example statistics, so that nothing is ever scored twice.

Each example of a task's frame of scores has a row of statistics in every group that is asked for; every
metric of a group is a function of those rows and of how often each example counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from nvreg.metrics.metric import Array, Metric, padded
from nvreg.metrics.tokenisation import Tokenisation
from nvreg.registry import Registry, instance_of

if TYPE_CHECKING:
    from pandas import DataFrame

__all__ = [
    "METRICS",
    "Array",
    "Metric",
    "Tokenisation",
    "padded",
    "score",
    "statistics_of",
    "text_statistics",
]

METRICS: Registry[Metric] = Registry(
    "metric",
    {
        "nll": "nvreg.metrics.likelihood:NLL",
        "perplexity": "nvreg.metrics.likelihood:PERPLEXITY",
        "bits-per-character": "nvreg.metrics.likelihood:BITS_PER_CHARACTER",
        "bits-per-byte": "nvreg.metrics.likelihood:BITS_PER_BYTE",
        "byte-perplexity": "nvreg.metrics.likelihood:BYTE_PERPLEXITY",
        "word-perplexity": "nvreg.metrics.likelihood:WORD_PERPLEXITY",
        "bleu": "nvreg.metrics.text:BLEU",
        "chrf": "nvreg.metrics.text:CHRF",
        "rouge1": "nvreg.metrics.text:ROUGE_1",
        "rouge2": "nvreg.metrics.text:ROUGE_2",
        "rougeL": "nvreg.metrics.text:ROUGE_L",
        "rougeLsum": "nvreg.metrics.text:ROUGE_LSUM",
        "length-ratio": "nvreg.metrics.text:LENGTH_RATIO",
        "overlap": "nvreg.metrics.text:OVERLAP",
        "accuracy": "nvreg.metrics.classification:ACCURACY",
        "macro-f1": "nvreg.metrics.classification:MACRO_F1",
        "f1": "nvreg.metrics.classification:F1",
        "ece": "nvreg.metrics.classification:ECE",
        "brier": "nvreg.metrics.classification:BRIER",
    },
    group="nvreg.metrics",
    check=instance_of(Metric),
)
"""Every metric by name; a task supplies those whose group of statistics it makes (see `nvreg.tasks.Task`)."""


def score(frame: DataFrame, name: str) -> float:
    """Return the metric of that name over all examples of a task's frame of scores."""
    return float(METRICS[name].score(statistics_of(frame, METRICS[name].group)))


def statistics_of(frame: DataFrame, group: str) -> Array:
    """Return the rows of a group of a frame of scores: [examples, k], NaN after the end of shorter ones."""
    lengths = frame[group].map(len).to_numpy(dtype=np.int64)
    return padded(np.concatenate(frame[group].to_list()).astype(np.float64), lengths)


def text_statistics(
    name: str, predictions: Sequence[str], references: Sequence[str], tokenisation: Tokenisation | None = None
) -> Array:
    """Return the statistics of generated text that the metric of that name needs, a row each: [examples, k].

    Raises:
        UserError: if a tokenizer that the metric needs cannot be had.
    """
    of_texts = METRICS[name].of_texts
    if of_texts is None:
        raise ValueError(f"expected a metric of generated text, got {name!r}")
    return of_texts(predictions, references, tokenisation or Tokenisation())
