"""Metrics of how likely a model finds text or a label: ratios of sums over what is scored.

Group ``likelihood``, an example's columns: negative log-likelihood in nats, scored tokens (1 for a label),
characters of the scored text (0 for a label).
"""

from __future__ import annotations

import numpy as np

from nvreg.metrics.metric import Array, Metric, of_sums


def _nll(sums: Array) -> Array:
    return sums[..., 0] / sums[..., 1]


def _perplexity(sums: Array) -> Array:
    return np.exp(_nll(sums))


def _bits_per_character(sums: Array) -> Array:
    return sums[..., 0] / sums[..., 2] / np.log(2)


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
)

BITS_PER_CHARACTER = Metric(
    "bits-per-character",
    "likelihood",
    False,
    lambda _: "unit:bit|per:character",
    _bits_of_examples,
    of_sums(_bits_per_character),
)
