"""Two models on the same test examples: their difference, its intervals, and a test of it."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from nvreg.report.selection import Pick
from nvreg.report.significance import paired_p_value
from nvreg.report.statistics import interval
from nvreg.tasks.metrics import METRICS

NAN = float("nan")


class Contrast(NamedTuple):
    """What one cell of a table says of a selection, and of its difference from what it is compared with.

    Attributes:
        score: the mean over repetitions.
        deviation: the standard deviation over repetitions (n - 1); NaN for one.
        difference: mean of the differences.
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
    """Compare repetitions of a selection, one a seed, with as many of another, on one test set.

    Args:
        metric: what is scored.
        ours: the selection.
        theirs: what it is compared with; compared with nothing, it has a score alone.

    Raises:
        UserError: if an example file of a chosen trial cannot be read.
    """
    scores = [pick.score(metric) for pick in ours]
    deviation = float(np.std(scores, ddof=1)) if len(scores) > 1 else NAN
    return Contrast(float(np.mean(scores)), deviation, *(_difference(metric, ours, theirs) if theirs else ()))


def _difference(metric: str, ours: Sequence[Pick], theirs: Sequence[Pick]) -> tuple[float, ...]:
    pairs = list(zip(ours, theirs, strict=True))
    with np.errstate(invalid="ignore"):  # of infinities, destroyed models'
        difference = np.mean([pick.score(metric) - other.score(metric) for pick, other in pairs])
        given = np.mean([pick.resampled(metric) - other.resampled(metric) for pick, other in pairs], axis=0)
        if not all(pick.redrawn for pick in (*ours, *theirs)):
            return float(difference), *interval(given)
        redrawn = np.mean([a.reselected(metric) - b.reselected(metric) for a, b in pairs], axis=0)
    return float(difference), *interval(given), *interval(redrawn), _p_value(metric, pairs)


def _p_value(metric: str, pairs: Sequence[tuple[Pick, Pick]]) -> float:
    if METRICS[metric].higher_is_better is None:
        return NAN
    statistics = [(pick.statistics(metric), other.statistics(metric)) for pick, other in pairs]
    return paired_p_value(METRICS[metric], statistics, f"{pairs[0][0].domain}.test")
