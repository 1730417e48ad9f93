"""What a metric is: a corpus score as a function of rows of per-example statistics."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from nvreg.metrics.tokenisation import Tokenisation

Array = NDArray[np.float64]

OfCorpus = Callable[[Array, Array], Array]
"""A function of statistics [examples, k] and counts [resamples, examples] that returns scores [resamples]."""

OfExamples = Callable[[Array], Array]
"""A function of statistics [examples, k] that returns scores [examples]."""


OfTexts = Callable[[Sequence[str], Sequence[str], Tokenisation], Array]
"""A function of generated texts and their references that returns statistics [examples, k]."""


@dataclass(frozen=True)
class Metric:
    """A corpus score.

    Attributes:
        name: as in an experiment file.
        group: the statistics it needs, a column of a task's frame of scores.
        higher_is_better: None where neither direction is better.
        signature: describes every choice that changes the score, with the version of the library that has it.
        of_examples: the score of every example by itself, NaN-free; None where an example has none.
        of_corpus: the score of examples that are each drawn some number of times: a ratio of sums (see
            `of_sums`) or any other statistic of a corpus. None where it is the mean of ``of_examples``.
        of_texts: makes the statistics from generated text; None where the task makes them.
        of_example: what the score of an example is called, where that is not the metric: a logarithm of it.
    """

    name: str
    group: str
    higher_is_better: bool | None
    signature: Callable[[Tokenisation], str]
    of_examples: OfExamples | None = None
    of_corpus: OfCorpus | None = None
    of_texts: OfTexts | None = None
    of_example: str = ""

    def __post_init__(self) -> None:
        if self.of_examples is None and self.of_corpus is None:
            raise ValueError(f"{self.name}: expected of_examples, of_corpus or both, got neither")

    @property
    def name_of_example(self) -> str:
        """What the score of an example is called."""
        return self.of_example or self.name

    @property
    def is_of_generated_text(self) -> bool:
        """Whether the statistics are made from text that a model has generated."""
        return self.of_texts is not None or self.group == "overlap"

    def score(self, statistics: Array, counts: NDArray[Any] | None = None) -> Array:
        """Return the score of a corpus, or of resamples of it.

        Args:
            statistics: a row an example: [examples, k], NaN after the end of shorter ones (see `padded`).
            counts: how often each resample draws each example: [resamples, examples]; by default once.

        Returns:
            A number [], or with counts one a resample [resamples]. Infinite or NaN where the metric is.
        """
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            if counts is None:
                return self._of_corpus(statistics, np.ones((1, len(statistics))))[0]
            return self._of_corpus(statistics, np.asarray(counts, dtype=np.float64))

    def per_example(self, statistics: Array) -> Array | None:
        """Return each example's own score [examples], in the metric's direction; None if it has none."""
        return None if self.of_examples is None else self.of_examples(statistics)

    def _of_corpus(self, statistics: Array, counts: Array) -> Array:
        of_corpus = self.of_corpus or mean_of(cast(OfExamples, self.of_examples))
        return of_corpus(statistics, counts)


def padded(values: Array, lengths: NDArray[np.int64]) -> Array:
    """Return rows of any lengths, given one after the other, as [rows, longest], NaN after their ends."""
    longest = int(lengths.max(initial=0))
    exists = np.arange(longest) < lengths[:, None]
    rows = np.full(exists.shape, np.nan)
    rows[exists] = values
    return rows


def of_sums(aggregate: Callable[[Array], Array]) -> OfCorpus:
    """Return the score that is a function of summed statistics: from sums [..., k] to scores [...]."""
    return lambda statistics, counts: aggregate(counts @ statistics)


def mean_of(of_examples: OfExamples) -> OfCorpus:
    """Return the score that is the mean of each example's."""
    return lambda statistics, counts: counts @ of_examples(statistics) / counts.sum(axis=-1)
