"""Numbers as text: a cell of a table shows as many digits as its interval tells."""

import json
import math
from collections.abc import Collection, Hashable, Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any

import pandas as pd
from pandas import DataFrame

from nvreg.document import Cell, Tone
from nvreg.methods import METHODS
from nvreg.results import PRETRAINED_NUMBER
from nvreg.rounding import DIGITS, EXACT, RELATIVE_NOISE, last_place, number_text

Record = Mapping[Hashable, Any]
"""A row of a table of `nvreg.report.contrasts`."""

AS_CHOSEN, RESELECTED = "", "_reselected"
"""The ends of the names of the columns of both intervals."""

INTERVALS = (RESELECTED, AS_CHOSEN)
"""The intervals in their order of preference: a cell shows the first that it has."""


def with_decimals(rows: DataFrame, intervals: Sequence[str] = INTERVALS) -> DataFrame:
    """Return rows of a table with a column ``decimals``, at which place after the point a cell's numbers end.

    A cell without an interval is shown like the middle one of its domain's cells that have one.

    Args:
        rows: what is to be shown.
        intervals: a cell shows the first of these that it has.
    """
    cells = rows.to_dict("records")
    found = pd.Series([_decimals(cell, intervals) for cell in cells], index=rows.index, dtype=float)
    middle = found.groupby(rows["domain"]).transform("quantile", 0.5, interpolation="lower")
    usual = pd.Series([last_place(cell["score"], EXACT) for cell in cells], index=rows.index)
    return rows.assign(decimals=found.fillna(middle).fillna(usual).astype(int))


CANNOT = "cannot change it"
"""What is said of a method and a metric that no setting of it can change."""


def score_cell(record: Record, tone: Tone = "", cannot_change: Collection[str] = ()) -> Cell:
    """Return a score, and its difference from what it is compared with, with one interval.

    That repeats the choice, in braces; of an upper bound, which has none, it takes the choice as given, in
    brackets.

    Args:
        record: a row of a table, with decimals.
        tone: what its interval tells.
        cannot_change: the methods no setting of which can change the score.
    """
    if math.isnan(record["score"]):
        return Cell("n/a")
    decimals = record["decimals"]
    text, value = number_text(record["score"], decimals), float(record["score"])
    if "other" in record:
        text = f"{number_text(record['other'], decimals)}{_at(record, 'other_')} → {text}"
    if not math.isnan(record["deviation"]):
        text += f" ± {number_text(record['deviation'], decimals)}"
    text += _at(record)
    if math.isnan(record["difference"]):
        return Cell(text, value=value)
    if record.get("method") in cannot_change:
        return Cell(text, CANNOT, value=value)
    if _is_pretrained(record):
        return Cell(text, "pretrained", value=value)
    change = number_text(record["difference"], decimals, "+")
    return Cell(text, change, interval_text(record), tone, tuple(facts(record)), value)


def gain_cell(record: Record, tone: Tone = "") -> Cell:
    """Return a difference with the interval that repeats the choice."""
    if math.isnan(record["score"]):
        return Cell("n/a")
    change = number_text(record["difference"], record["decimals"], "+")
    value = float(record["difference"])
    return Cell(change, "", interval_text(record, (RESELECTED,)), tone, tuple(facts(record)), value)


def gain_text(record: Record) -> str:
    """Return `gain_cell` as text."""
    return str(gain_cell(record))


def interval_text(record: Record, intervals: Sequence[str] = INTERVALS) -> str:
    """Return the first of some intervals that a cell has, in its brackets; empty where it has none."""
    for which in intervals:
        low, high = record[f"low{which}"], record[f"high{which}"]
        if not (math.isnan(low) or math.isnan(high)):
            left, right = "{}" if which == RESELECTED else "[]"
            ends = (number_text(end, record["decimals"], "+") for end in (low, high))
            return f"{left}{', '.join(ends)}{right}"
    return ""


def facts(record: Record) -> Iterator[str]:
    """Yield all that is known of a difference: both intervals, p, and the setting."""
    narrowest = _narrowest(record)
    exact = record if narrowest is None else {**record, "decimals": narrowest}
    yield f"difference {number_text(record['difference'], exact['decimals'], '+')}"
    for which, words in {RESELECTED: "choice repeated", AS_CHOSEN: "choice as given"}.items():
        if text := interval_text(exact, (which,)):
            yield f"{words} {text}"
    if not math.isnan(record["p_holm"]):
        yield p_text(record["p_holm"])
    if setting := chosen_text(record):
        yield setting


def p_text(p: float) -> str:
    """Return a p-value in words."""
    return f"p = {p:.3f}" if p >= 0.001 else "p < 0.001"


def chosen_text(record: Record) -> str:
    """Return the trial of a row and its setting; empty where the row is the mean of several."""
    trial: Any = record.get("trial", pd.NA)
    written = record.get("setting")
    if pd.isna(trial) or not isinstance(written, str):
        return ""
    values, method = json.loads(written), str(record.get("method"))
    if method in METHODS and values:
        written = str(METHODS[method].setting_type.from_dict(values))
    return f"trial {trial}: {written}" if values else f"trial {trial}"


def _at(record: Record, whose: str = "") -> str:
    """Return the temperature that a score is at, if any."""
    temperature = record.get(f"{whose}temperature")
    return "" if pd.isna(temperature) else f" at {temperature}"


def time_text(seconds: float) -> str:
    """Return a duration as hours, minutes and seconds."""
    return str(timedelta(seconds=round(seconds)))


def keeps_pretrained(rows: DataFrame) -> "pd.Series[bool]":
    """Return which choices, compared with the pretrained model, are that model, at the same temperature."""
    return pd.Series([_is_pretrained(cell) for cell in rows.to_dict("records")], rows.index, dtype=bool)


def _is_pretrained(record: Record) -> bool:
    trial = record.get("trial", pd.NA)
    if trial is pd.NA or trial != PRETRAINED_NUMBER:
        return False
    return bool(record.get("temperature") == record.get("other_temperature"))


def _decimals(record: Record, intervals: Sequence[str]) -> int | None:
    """Return the place of the second digit of the half-width of the first interval that has a width.

    Where none has, that of the difference. None where that is nothing either, or the cell has no interval.
    """
    if _is_pretrained(record):
        return None
    sizes = [_half_width(record, which) for which in intervals]
    if all(map(math.isnan, sizes)):
        return None
    known = (size for size in (*sizes, abs(record["difference"])) if _is_width(size, record))
    first = next(known, None)
    return None if first is None else last_place(first, DIGITS)


def _narrowest(record: Record) -> int | None:
    """Return the place of the second digit of the half-width of the narrowest interval that has a width."""
    sizes = [size for which in INTERVALS if _is_width(size := _half_width(record, which), record)]
    return last_place(min(sizes), DIGITS) if sizes else None


def _half_width(record: Record, which: str) -> float:
    return float(abs(record[f"high{which}"] - record[f"low{which}"]) / 2)


def _is_width(size: float, record: Record) -> bool:
    """Return whether a width is more than what batches change."""
    largest = max(abs(record["score"]), abs(record["score"] - record["difference"]))
    return bool(RELATIVE_NOISE * largest < size < math.inf)
