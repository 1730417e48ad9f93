"""Tests of paired differences by approximate randomisation, from the statistics of examples.

A p-value says how often the printed scores differ as much when the outputs of the two sides are swapped,
example by example, at random (Noreen 1989; Riezler & Maxwell 2005). It tests the number that is printed,
whether that is a mean over examples, a ratio of sums or a score of the whole corpus.
"""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import product
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from nvreg.metrics.metric import Array, Metric
from nvreg.protocols import without_last_bits

SWAPS = 9999
"""Random swaps of a test at most: no p-value is below 1 / (SWAPS + 1)."""

ENOUGH = 100
"""A test ends when so many swaps differ as much as was observed: its p-value is then known to a tenth."""

SEED = 12345
"""The seed of everything that is drawn of examples."""

BLOCK = 250
"""Swaps that are scored at once, which bounds memory."""

Alternative = Literal["two-sided", "worse"]


def p_value(
    metric: Metric,
    ours: Sequence[Array],
    theirs: Sequence[Array],
    split: str,
    *,
    alternative: Alternative = "two-sided",
    swaps: int = SWAPS,
) -> float:
    """Return the p-value of no difference between two sides on the same examples.

    All ``2 ** examples`` swaps are counted where they are no more than ``swaps``: the p-value is then exact.
    Otherwise swaps are drawn until `ENOUGH` of them differ as much as what was observed (Besag & Clifford
    1991), or there are ``swaps``; what was observed then counts as one more (Davison & Hinkley 1997).

    Args:
        metric: what is scored.
        ours: sufficient statistics of one side, ``(examples, k)``; of several settings the mean score counts.
        theirs: those of the other.
        split: where the examples are from; decides the swaps.
        alternative: what counts as a difference: any, or ours being worse in the metric's direction.
        swaps: how many are counted at most.

    Returns:
        The p-value; NaN where the difference is not finite.
    """
    examples = len(ours[0])
    exact = 2**examples <= swaps
    sizes = _sizes(metric, ours, theirs, alternative)
    (observed,) = sizes(np.zeros((1, examples), dtype=np.bool_))
    if not np.isfinite(observed):
        return float("nan")
    exceeding = drawn = 0
    for swapped in _every_swap(examples) if exact else _random_swaps(split, examples, swaps):
        (as_large,) = np.nonzero(~(sizes(swapped) < observed))  # what is not a number counts
        if not exact and exceeding + len(as_large) >= ENOUGH:
            return float(ENOUGH / (drawn + as_large[ENOUGH - exceeding - 1] + 1))
        exceeding += len(as_large)
        drawn += len(swapped)
    return exceeding / drawn if exact else (exceeding + 1) / (drawn + 1)


def seeded_generator(*seeds: str | int) -> np.random.Generator:
    """Return a generator of random numbers that depends on `SEED` and the arguments, and on nothing else."""
    return np.random.default_rng(
        [SEED, *(each if isinstance(each, int) else zlib.crc32(each.encode()) for each in seeds)]
    )


def _every_swap(examples: int) -> Iterator[NDArray[np.bool_]]:
    yield (np.arange(2**examples)[:, None] >> np.arange(examples) & 1).astype(np.bool_)


def _random_swaps(split: str, examples: int, swaps: int) -> Iterator[NDArray[np.bool_]]:
    """Yield blocks of swaps, ``(swaps, examples)``, the same for the same split and number of examples."""
    generator = seeded_generator("swaps", split, examples)
    for drawn in range(0, swaps, BLOCK):
        yield generator.integers(2, size=(min(BLOCK, swaps - drawn), examples), dtype=np.bool_)


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
    metric: Metric, ours: Sequence[Array], theirs: Sequence[Array], alternative: Alternative
) -> Callable[[NDArray[np.bool_]], Array]:
    """Return a function from swaps ``(swaps, examples)`` to the sizes of the difference of mean scores.

    The size is how far apart the two are or, where the alternative is "worse", by how much ours is worse.
    Every setting of one side is swapped with every setting of the other. Equal sizes are equal to the bit.
    """
    rows = {id(each): each for each in (*ours, *theirs)}  # repetitions share arrays, a pretrained model's say
    pairs = Counter((id(mine), id(other)) for mine, other in product(ours, theirs))
    both = [(_below(rows[mine], rows[other]), times) for (mine, other), times in pairs.items()]
    scores = np.array([metric.score(each) for each in rows.values()])
    scale = np.abs(scores[np.isfinite(scores)]).max(initial=0)
    sign = -1 if metric.higher_is_better else 1

    def sizes(swapped: NDArray[np.bool_]) -> Array:
        counts = np.hstack([~swapped, swapped]).astype(np.float64)
        with np.errstate(invalid="ignore"):  # between infinities, a destroyed model's
            differences = [
                times * (metric.score(statistics, counts) - metric.score(statistics, 1 - counts))
                for statistics, times in both
            ]
            mean = without_last_bits(np.sum(differences, axis=0) / pairs.total(), scale)
            return np.abs(mean) if alternative == "two-sided" else sign * mean

    return sizes
