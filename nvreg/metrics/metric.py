"""What a metric is: a corpus score as a function of rows of per-example statistics."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

OfCorpus = Callable[[Array, Array], Array]
"""From statistics [examples, k] and counts [resamples, examples] to scores [resamples]."""

OfExamples = Callable[[Array], Array]
"""From statistics [examples, k] to scores [examples]."""


@dataclass(frozen=True)
class Metric:
    """A corpus score.

    Attributes:
        name: as in an experiment file.
        group: the statistics it needs, a column of a task's frame of scores.
        higher_is_better: None where neither direction is better.
        of_corpus: the score of examples that are each drawn some number of times.
        of_examples: the score of every example by itself, NaN-free; None where an example has none.
        signature: describes every choice that changes the score.
    """

    name: str
    group: str
    higher_is_better: bool | None
    of_corpus: OfCorpus
    of_examples: OfExamples | None
    signature: Callable[[], str]

    def score(self, statistics: Array, counts: NDArray[Any] | None = None) -> Array:
        """Return the score of a corpus, or of resamples of it.

        Args:
            statistics: a row an example: [examples, k].
            counts: how often each resample draws each example: [resamples, examples]; by default once.

        Returns:
            A number [], or with counts one a resample [resamples]. Infinite or NaN where the metric is.
        """
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            if counts is None:
                return self.of_corpus(statistics, np.ones((1, len(statistics))))[0]
            return self.of_corpus(statistics, np.asarray(counts, dtype=np.float64))

    def per_example(self, statistics: Array) -> Array | None:
        """Return each example's own score [examples], in the metric's direction; None if it has none."""
        return None if self.of_examples is None else self.of_examples(statistics)


def of_sums(aggregate: Callable[[Array], Array]) -> OfCorpus:
    """Return the score that is a function of summed statistics: from sums [..., k] to scores [...]."""
    return lambda statistics, counts: aggregate(counts @ statistics)


def mean_of(of_examples: OfExamples) -> OfCorpus:
    """Return the score that is the mean of each example's."""
    return lambda statistics, counts: counts @ of_examples(statistics) / counts.sum(axis=-1)
