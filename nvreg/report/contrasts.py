"""What protocols chose against something else on the same test examples: differences, intervals and tests."""

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from pandas import DataFrame

from nvreg.metrics import METRICS
from nvreg.metrics.randomisation import p_value
from nvreg.metrics.resampling import FEWEST, Array, holm, interval
from nvreg.report.selection import Pick, ProtocolChoice, Scored

NAN = float("nan")

TEMPERATURE_COLUMNS = ("temperature", "other_temperature", "end_of_list")
"""The columns that a table after temperature has more."""


class Contrast(NamedTuple):
    """What one cell of a table says of a choice, and of its difference from what it is compared with.

    Attributes:
        score: the mean over repetitions.
        deviation: the standard deviation over repetitions (n - 1); NaN for one.
        difference: from the mean over repetitions of the other.
        low: lower end of its interval, the settings taken as they were chosen; NaN, like all that follows,
            of fewer than `FEWEST` examples.
        high: upper end.
        low_reselected: lower end where the choice is repeated on every resample; NaN for an upper bound,
            which chooses on the test set.
        high_reselected: upper end.
        p: the p-value of a paired test of no difference; NaN for an upper bound, for a metric without a
            better direction, where the difference is not finite, and of a setting against itself at another
            temperature.
    """

    score: float
    deviation: float
    difference: float = NAN
    low: float = NAN
    high: float = NAN
    low_reselected: float = NAN
    high_reselected: float = NAN
    p: float = NAN


class Row(NamedTuple):
    """A row of a table for each metric: labels, and repetitions of what is compared with what."""

    labels: Mapping[str, Any]
    ours: Sequence[ProtocolChoice]
    theirs: Sequence[ProtocolChoice]


def contrasts_table(metrics: Sequence[str], domains: Sequence[str], rows: Sequence[Row]) -> DataFrame:
    """Return one row for each metric, row and domain, without numbers where a protocol does not apply.

    Columns: metric, the labels, domain; the fields of `Contrast`; p_holm, p corrected over the domains; trial
    and setting (JSON), empty where the score is the mean over several settings. Where choices are at
    temperatures, also `TEMPERATURE_COLUMNS`: that of the choice, that of what it is compared with (the lowest
    and the highest of several), and whether one of the choice's is the lowest or highest that was tried.

    Raises:
        UserError: if an example file of a chosen trial cannot be read.
    """
    table = DataFrame([cell for metric in metrics for row in rows for cell in _cells(metric, domains, row)])
    labels = dict.fromkeys(label for row in rows for label in row.labels)
    columns = ["metric", *labels, "domain", *Contrast._fields, "p_holm", "trial", "setting"]
    columns += [name for name in TEMPERATURE_COLUMNS if name in table]
    return table.reindex(columns=columns).astype({"trial": "Int64"})


def pairs_table(metrics: Sequence[str], domains: Sequence[str], rows: Sequence[Row]) -> DataFrame:
    """Return the columns of `contrasts_table` with other, the other's score, for trial and setting.

    Raises:
        UserError: as `contrasts_table`.
    """
    table = contrasts_table(metrics, domains, rows).drop(columns=["trial", "setting"])
    table.insert(list(table.columns).index("score"), "other", table["score"] - table["difference"])
    return table


def contrast(metric: str, ours: Sequence[Pick], theirs: Sequence[Pick] = ()) -> Contrast:
    """Compare a choice with another on the same test set, each the mean of its repetitions.

    Args:
        metric: what is scored.
        ours: the choice, repeated with other seeds or models.
        theirs: what it is compared with; compared with nothing, it has a score alone.

    Raises:
        UserError: if an example file of a chosen trial cannot be read.
    """
    scores = [pick.score(metric) for pick in ours]
    deviation = float(np.std(scores, ddof=1)) if len(scores) > 1 else NAN
    return Contrast(float(np.mean(scores)), deviation, *(_difference(metric, ours, theirs) if theirs else ()))


def _difference(metric: str, ours: Sequence[Pick], theirs: Sequence[Pick]) -> tuple[float, ...]:
    def between(value: Callable[[Pick], Array]) -> Array:
        mine, others = (np.mean([value(pick) for pick in side], axis=0) for side in (ours, theirs))
        with np.errstate(invalid="ignore"):  # infinite scores are a destroyed model's
            return mine - others

    difference = float(between(lambda pick: np.array(pick.score(metric))))
    if len(ours[0].scored[0].statistics(metric)) < FEWEST:
        return (difference,)
    as_chosen = interval(between(lambda pick: pick.resampled(metric)))
    if not all(pick.redrawn for pick in (*ours, *theirs)):
        return difference, *as_chosen
    reselected = interval(between(lambda pick: pick.reselected(metric)))
    mine, others = (tuple(each for pick in side for each in pick.scored) for side in (ours, theirs))
    is_tested = math.isfinite(difference) and METRICS[metric].higher_is_better is not None
    is_tested = is_tested and not _differ_in_temperature_alone(mine, others)
    return difference, *as_chosen, *reselected, _p_value(metric, mine, others) if is_tested else NAN


def _differ_in_temperature_alone(ours: Sequence[Scored], theirs: Sequence[Scored]) -> bool:
    outputs = [{(each.run, each.number) for each in side} for side in (ours, theirs)]
    return outputs[0] == outputs[1] and set(ours) != set(theirs)


@lru_cache(maxsize=4096)  # protocols often choose the same, and tables show it more than once
def _p_value(metric: str, ours: tuple[Scored, ...], theirs: tuple[Scored, ...]) -> float:
    mine, others = ([each.statistics(metric) for each in side] for side in (ours, theirs))
    return p_value(METRICS[metric], mine, others, f"{ours[0].domain}.test")


def _cells(metric: str, domains: Sequence[str], row: Row) -> Iterator[dict[str, Any]]:
    contrasts = {
        domain: contrast(metric, [each[domain] for each in row.ours], [each[domain] for each in row.theirs])
        for domain in domains
        if all(domain in each for each in (*row.ours, *row.theirs))
    }
    corrected = holm([cell.p for cell in contrasts.values()])
    p_values = dict(zip(contrasts, corrected, strict=True))
    for domain in domains:
        cell = {"metric": metric, **row.labels, "domain": domain}
        if domain in contrasts:
            cell |= contrasts[domain]._asdict() | {"p_holm": p_values[domain]}
            ours, theirs = ([each[domain] for each in side] for side in (row.ours, row.theirs))
            cell |= _trial(ours) | _temperatures(ours, theirs)
        yield cell


def _trial(picks: Sequence[Pick]) -> dict[str, Any]:
    """Return the trial and its setting where all picks are of the same one."""
    run, *others = {pick.run for pick in picks}
    number, *more = {number for pick in picks for number in pick.trials}
    return {} if others or more else {"trial": number, "setting": json.dumps(run.trials[number].settings)}


def _temperatures(ours: Sequence[Pick], theirs: Sequence[Pick]) -> dict[str, Any]:
    """Return the columns of `TEMPERATURE_COLUMNS` where either side is at temperatures."""
    if not any(pick.temperatures for pick in (*ours, *theirs)):
        return {}
    mine, others = (
        sorted({each for pick in side for each in pick.temperatures or (1.0,)}) for side in (ours, theirs)
    )
    ends = {end(pick.run.temperatures) for pick in ours for end in (min, max)}
    texts = (" to ".join(f"{each:.4g}" for each in dict.fromkeys((of[0], of[-1]))) for of in (mine, others))
    return dict(zip(TEMPERATURE_COLUMNS, (*texts, not ends.isdisjoint(mine)), strict=True))
