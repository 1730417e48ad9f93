"""Metrics of how likely a model finds text or a label: ratios of sums over what is scored.

The groups, and an example's columns in each:

- ``likelihood``: negative log-likelihood in nats, scored tokens (1 for a label), characters of the scored
  text (0 for a label);
- ``text``: negative log-likelihood in nats, bytes of the scored text in UTF-8, its words, which are counted
  as lm-evaluation-harness counts them: the pieces between runs of white space, an empty one at an end
  included.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from nvreg.metrics.metric import Array, Metric, OfCorpus, OfExamples, of_sums


def _nll(sums: Array) -> Array:
    return sums[..., 0] / sums[..., 1]


def _perplexity(sums: Array) -> Array:
    return np.exp(_nll(sums))


def _bits_per_character(sums: Array) -> Array:
    return sums[..., 0] / sums[..., 2] / np.log(2)


def byte_and_word_statistics(nats: Sequence[float], texts: Sequence[str]) -> list[list[float]]:
    """Return the rows of ``text``, given the negative log-likelihood of each text."""
    return [
        [each, float(len(text.encode())), float(len(re.split(r"\s+", text))) if text else 0.0]
        for each, text in zip(nats, texts, strict=True)
    ]


def _perplexity_of_unit(column: int) -> OfCorpus:
    """Return the exponential of the nats for each of what a column counts."""
    return of_sums(lambda sums: np.exp(sums[..., 0] / sums[..., column]))


def _nats_of_unit(column: int) -> OfExamples:
    """Return an example's nats for each of what a column counts, as `PERPLEXITY` has it."""
    return lambda statistics: statistics[:, 0] / np.maximum(1, statistics[:, column])


def _nll_of_examples(statistics: Array) -> Array:
    return statistics[:, 0] / np.maximum(1, statistics[:, 1])


def _bits_of_examples(statistics: Array) -> Array:
    return statistics[:, 0] / np.maximum(1, statistics[:, 2]) / np.log(2)


NLL = Metric("nll", "likelihood", False, lambda _: "unit:nat", _nll_of_examples, of_sums(_nll))

PERPLEXITY = Metric(
    "perplexity",
    "likelihood",
    False,
    lambda _: "exp:nll",
    # An example scores its NLL: the logarithm keeps one unlikely sentence from outweighing all others.
    _nll_of_examples,
    of_sums(_perplexity),
    of_example="nll",
)

BITS_PER_CHARACTER = Metric(
    "bits-per-character",
    "likelihood",
    False,
    lambda _: "unit:bit|per:character",
    _bits_of_examples,
    of_sums(_bits_per_character),
)

BITS_PER_BYTE = Metric(
    "bits-per-byte",
    "text",
    False,
    lambda _: "unit:bit|per:byte",
    lambda statistics: _nats_of_unit(1)(statistics) / np.log(2),
    of_sums(lambda sums: sums[..., 0] / sums[..., 1] / np.log(2)),
)

BYTE_PERPLEXITY = Metric(
    "byte-perplexity",
    "text",
    False,
    lambda _: "exp:nats|per:byte",
    _nats_of_unit(1),
    _perplexity_of_unit(1),
    of_example="nats per byte",
)

WORD_PERPLEXITY = Metric(
    "word-perplexity",
    "text",
    False,
    lambda _: "exp:nats|per:word|words:white-space",
    _nats_of_unit(2),
    _perplexity_of_unit(2),
    of_example="nats per word",
)
