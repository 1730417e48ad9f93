"""Intervals and tests of paired differences, from the statistics of examples: nothing is scored twice.

An interval is of the paired bootstrap over examples. One resample is a count for every example of a split;
the counts are drawn once a split, so all settings are compared on the same resamples.

A p-value is of approximate randomisation (Noreen 1989; Riezler & Maxwell 2005): how often the printed scores
differ as much when the outputs of the two sides are swapped, example by example, at random. It tests the
number that is printed, whether that is a mean over examples, a ratio of sums or a score of the whole corpus.
"""

import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from itertools import product
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from nvreg.metrics import Metric
from nvreg.protocols import without_last_bits

RESAMPLES = 1000
"""Resamples of a bootstrap."""

LEVEL = 0.95
"""The level of intervals."""

SWAPS = 9999
"""Random swaps of a test at most: no p-value is below 1 / (SWAPS + 1)."""

ENOUGH = 100
"""A test ends when so many swaps differ as much as was observed: its p-value is then known to a tenth."""

SEED = 12345
"""The seed of everything that is drawn here."""

BLOCK = 250
"""Swaps that are scored at once, which bounds memory."""

Array = NDArray[np.float64]


class Interval(NamedTuple):
    """The two ends of an interval of a difference."""

    low: float
    high: float


@lru_cache(maxsize=16)  # the splits of a run; 8 MB each a thousand examples
def resample_counts(split: str, examples: int) -> Array:
    """Return how often each resample draws each example, shape ``(RESAMPLES, examples)``.

    The draw depends on `SEED`, the name of the split (as in "news.test") and its number of examples.
    """
    uniform = np.full(examples, 1 / examples)
    return _generator(split, examples).multinomial(examples, uniform, size=RESAMPLES).astype(np.float64)


def interval(resampled: Array) -> Interval:
    """Return the percentile interval of level `LEVEL` of a resampled difference."""
    with np.errstate(invalid="ignore"):  # between infinities, a destroyed model's
        low, high = np.quantile(resampled, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(float(low), float(high))


def standard_error(resampled: Array) -> float:
    """Return the bootstrap standard error of a resampled difference; NaN if it is not finite throughout."""
    return float(np.std(resampled, ddof=1)) if np.isfinite(resampled).all() else float("nan")


def p_value(metric: Metric, ours: Sequence[Array], theirs: Sequence[Array], split: str) -> float:
    """Return the two-sided p-value of no difference between two sides on the same examples.

    All ``2 ** examples`` swaps are counted where they are no more than `SWAPS`: the p-value is then exact.
    Otherwise swaps are drawn until `ENOUGH` of them differ as much as what was observed (Besag & Clifford
    1991), or there are `SWAPS`; what was observed then counts as one more (Davison & Hinkley 1997).

    Args:
        metric: what is scored.
        ours: sufficient statistics of one side, ``(examples, k)``; of several settings the mean score counts.
        theirs: those of the other.
        split: where the examples are from; decides the swaps.

    Returns:
        The p-value; NaN where the difference is not finite.
    """
    examples = len(ours[0])
    exact = 2**examples <= SWAPS
    sizes = _sizes(metric, ours, theirs)
    (observed,) = sizes(np.zeros((1, examples), dtype=np.bool_))
    if not np.isfinite(observed):
        return float("nan")
    exceeding = drawn = 0
    for swapped in _every_swap(examples) if exact else _random_swaps(split, examples):
        (as_large,) = np.nonzero(~(sizes(swapped) < observed))  # what is not a number counts
        if not exact and exceeding + len(as_large) >= ENOUGH:
            return float(ENOUGH / (drawn + as_large[ENOUGH - exceeding - 1] + 1))
        exceeding += len(as_large)
        drawn += len(swapped)
    return exceeding / drawn if exact else (exceeding + 1) / (drawn + 1)


def holm(p_values: Sequence[float]) -> list[float]:
    """Return the p-values of a family of tests corrected by Holm's method (1979), NaN where one is NaN."""
    corrected = np.full(len(p_values), np.nan)
    order = [place for place in np.argsort(p_values) if not np.isnan(p_values[place])]
    smallest = 0.0
    for rank, place in enumerate(order):
        smallest = max(smallest, min(1.0, (len(order) - rank) * p_values[place]))
        corrected[place] = smallest
    return corrected.tolist()


def _generator(*seeds: str | int) -> np.random.Generator:
    """Return a generator of random numbers that depends on `SEED` and the arguments, and on nothing else."""
    return np.random.default_rng(
        [SEED, *(each if isinstance(each, int) else zlib.crc32(each.encode()) for each in seeds)]
    )


def _every_swap(examples: int) -> Iterator[NDArray[np.bool_]]:
    yield (np.arange(2**examples)[:, None] >> np.arange(examples) & 1).astype(np.bool_)


def _random_swaps(split: str, examples: int) -> Iterator[NDArray[np.bool_]]:
    """Yield blocks of swaps, ``(swaps, examples)``, the same for the same split and number of examples."""
    generator = _generator("swaps", split, examples)
    for drawn in range(0, SWAPS, BLOCK):
        yield generator.integers(2, size=(min(BLOCK, SWAPS - drawn), examples), dtype=np.bool_)


def _below(ours: Array, theirs: Array) -> Array:
    """Return the rows of both sides, NaN after the ends of those that are shorter."""
    longest = max(ours.shape[1], theirs.shape[1])
    return np.concatenate(
        [
            np.pad(rows, ((0, 0), (0, longest - rows.shape[1])), constant_values=np.nan)
            for rows in (ours, theirs)
        ]
    )


def _sizes(
    metric: Metric, ours: Sequence[Array], theirs: Sequence[Array]
) -> Callable[[NDArray[np.bool_]], Array]:
    """Return a function from swaps ``(swaps, examples)`` to the sizes of the difference of mean scores.

    Every setting of one side is swapped with every setting of the other. Equal sizes are equal to the bit.
    """
    rows = {id(each): each for each in (*ours, *theirs)}  # repetitions share arrays, a pretrained model's say
    pairs = Counter((id(mine), id(other)) for mine, other in product(ours, theirs))
    both = [(_below(rows[mine], rows[other]), times) for (mine, other), times in pairs.items()]
    scores = np.array([metric.score(each) for each in rows.values()])
    scale = np.abs(scores[np.isfinite(scores)]).max(initial=0)

    def sizes(swapped: NDArray[np.bool_]) -> Array:
        counts = np.hstack([~swapped, swapped]).astype(np.float64)
        with np.errstate(invalid="ignore"):  # between infinities, a destroyed model's
            differences = [
                times * (metric.score(statistics, counts) - metric.score(statistics, 1 - counts))
                for statistics, times in both
            ]
            return np.abs(without_last_bits(np.sum(differences, axis=0) / pairs.total(), scale))

    return sizes
