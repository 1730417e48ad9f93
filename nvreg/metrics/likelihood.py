"""Metrics of how likely a model finds text or a label.

Group ``likelihood``, an example's columns: negative log-likelihood in nats, scored tokens (1 for a label),
characters of the scored text (0 for a label).
"""

from __future__ import annotations

import numpy as np

from nvreg.metrics.metric import Array, Metric, of_sums


def _nll(sums: Array) -> Array:
    return sums[..., 0] / sums[..., 1]


def _bits_per_character(sums: Array) -> Array:
    return sums[..., 0] / sums[..., 2] / np.log(2)


def _nll_of_examples(statistics: Array) -> Array:
    return statistics[:, 0] / np.maximum(1, statistics[:, 1])


def _bits_of_examples(statistics: Array) -> Array:
    return statistics[:, 0] / np.maximum(1, statistics[:, 2]) / np.log(2)


LIKELIHOOD = (
    Metric("nll", "likelihood", False, of_sums(_nll), _nll_of_examples, lambda: "unit:nat"),
    # Of an example its NLL: the logarithm keeps one unlikely sentence from outweighing all others.
    Metric(
        "perplexity",
        "likelihood",
        False,
        of_sums(lambda sums: np.exp(_nll(sums))),
        _nll_of_examples,
        lambda: "exp:nll",
    ),
    Metric(
        "bits-per-character",
        "likelihood",
        False,
        of_sums(_bits_per_character),
        _bits_of_examples,
        lambda: "unit:bit|per:character",
    ),
)
