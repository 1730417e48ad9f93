"""Two models on the same test examples: their difference, its intervals, and a test of it."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from nvreg.metrics import METRICS
from nvreg.report.selection import Pick
from nvreg.report.significance import paired_p_value
from nvreg.report.statistics import Array, interval

NAN = float("nan")


class Contrast(NamedTuple):
    """What one cell of a table says of a selection, and of its difference from what it is compared with.

    Attributes:
        score: the mean over repetitions.
        deviation: the standard deviation over repetitions (n - 1); NaN for one.
        difference: from the mean over repetitions of the other.
        low: lower end of its interval, the settings taken as they were chosen.
        high: upper end.
        low_reselected: lower end where the choice is repeated on every resample; NaN for the oracle, that
            chooses on the test set.
        high_reselected: upper end.
        p: of a paired test of no difference; NaN for the oracle, and for a metric without a better direction.
    """

    score: float
    deviation: float
    difference: float = NAN
    low: float = NAN
    high: float = NAN
    low_reselected: float = NAN
    high_reselected: float = NAN
    p: float = NAN


def contrast(metric: str, ours: Sequence[Pick], theirs: Sequence[Pick] = ()) -> Contrast:
    """Compare a selection with another on the same test set, each the mean of its repetitions.

    Args:
        metric: what is scored.
        ours: the selection, repeated with other seeds or models.
        theirs: what it is compared with; compared with nothing, it has a score alone.

    Raises:
        UserError: if an example file of a chosen trial cannot be read.
    """
    scores = [pick.score(metric) for pick in ours]
    deviation = float(np.std(scores, ddof=1)) if len(scores) > 1 else NAN
    return Contrast(float(np.mean(scores)), deviation, *(_difference(metric, ours, theirs) if theirs else ()))


def _difference(metric: str, ours: Sequence[Pick], theirs: Sequence[Pick]) -> tuple[float, ...]:
    def between(value: Callable[[Pick], Array]) -> Array:
        with np.errstate(invalid="ignore"):  # of infinities, destroyed models'
            return np.mean([value(pick) for pick in ours], axis=0) - np.mean([*map(value, theirs)], axis=0)

    difference = float(between(lambda pick: np.array(pick.score(metric))))
    as_chosen = interval(between(lambda pick: pick.resampled(metric)))
    if not all(pick.redrawn for pick in (*ours, *theirs)):
        return difference, *as_chosen
    reselected = interval(between(lambda pick: pick.reselected(metric)))
    return difference, *as_chosen, *reselected, _p_value(metric, ours, theirs)


def _p_value(metric: str, ours: Sequence[Pick], theirs: Sequence[Pick]) -> float:
    if METRICS[metric].higher_is_better is None:
        return NAN
    mine, others = ([rows for pick in side for rows in pick.statistics(metric)] for side in (ours, theirs))
    return paired_p_value(METRICS[metric], mine, others, f"{ours[0].domain}.test")
