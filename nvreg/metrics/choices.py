"""Choices among texts by their log-likelihood, and what that is divided by before texts are compared.

The column ``choices`` of a frame of scores has, for each choice of an example, one after the other: its
log-likelihood in nats, its scored tokens, its characters and its bytes in UTF-8. So one scoring serves every
normalisation.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from nvreg.metrics.classification import choice_statistics
from nvreg.metrics.metric import Array

if TYPE_CHECKING:
    from pandas import DataFrame

Normalisation = Literal["tokens", "characters", "bytes", "none"]
"""What a choice's log-likelihood is divided by. Accuracy by tokens is that of Brown et al. (2020); by
characters, bytes and none it is what lm-evaluation-harness calls acc_norm, acc_bytes and acc."""

NORMALISATIONS: tuple[Normalisation, ...] = get_args(Normalisation)

CHOICES = "choices"
"""The column of a frame of scores."""

COLUMNS = 4
"""How many numbers a choice has in it."""


def divisors(texts: Sequence[str], tokens: Sequence[int], by: Normalisation) -> list[int]:
    """Return what the log-likelihood of each choice is divided by.

    Args:
        texts: the texts of the choices of an example.
        tokens: how many tokens of each are scored.
        by: which normalisation.
    """
    sizes = _sizes(texts, tokens)
    return [1 if by == "none" else size[NORMALISATIONS.index(by)] for size in sizes]


def choice_row(log_likelihoods: Sequence[float], texts: Sequence[str], tokens: Sequence[int]) -> list[float]:
    """Return an example's row of `CHOICES`: log-likelihood, text and scored tokens are of each choice."""
    sizes = _sizes(texts, tokens)
    return [number for nats, size in zip(log_likelihoods, sizes, strict=True) for number in (nats, *size)]


def _sizes(texts: Sequence[str], tokens: Sequence[int]) -> list[tuple[int, int, int]]:
    """Return the tokens, characters and bytes of each choice of an example."""
    return [(count, len(text), len(text.encode())) for text, count in zip(texts, tokens, strict=True)]


def renormalised(frame: DataFrame, labels: Sequence[int], by: Normalisation) -> DataFrame:
    """Return the scores of a frame had choices been compared by another normalisation.

    Args:
        frame: with the column `CHOICES`.
        labels: which choice of each example is right, by number.
        by: which normalisation.

    Returns:
        The groups ``likelihood``, ``calibration`` and ``classes``, a row an example.
    """
    columns: dict[str, Any] = choice_statistics(
        [_log_probabilities(np.asarray(row, dtype=np.float64), by) for row in frame[CHOICES]],
        labels,
    )
    return type(frame)(columns, index=frame.index)


def _log_probabilities(row: Array, by: Normalisation) -> Array:
    """Return the logarithm of the softmax over the choices of an example."""
    choices = row.reshape(-1, COLUMNS)
    scores = choices[:, 0]
    if by != "none":
        scores = scores / choices[:, 1 + NORMALISATIONS.index(by)]
    shifted = scores - scores.max()
    return shifted - np.log(np.exp(shifted).sum())
