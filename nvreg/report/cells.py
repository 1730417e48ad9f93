"""Numbers as text: a cell of a table shows as many digits as its interval tells."""

import math
from collections.abc import Collection, Hashable, Mapping, Sequence
from datetime import timedelta
from typing import Any

import pandas as pd
from pandas import DataFrame

from nvreg.results import PRETRAINED_NUMBER

Cell = Mapping[Hashable, Any]
"""A row of a table of `nvreg.report.contrasts`."""

DIGITS = 2
"""Significant digits of the half-width of a cell's interval: all its numbers end where these do."""

EXACT = 4
"""Significant digits of a score where nothing says how far it is known."""

NOISE = 1e-6
"""Scores agree to so much, relatively, however examples are batched: a smaller width is none."""

LONGEST = 4
"""Numbers that are known to more than so many zeros before the point are written with an exponent."""


AS_CHOSEN, RESELECTED = "", "_reselected"
"""The ends of the names of the columns of both intervals."""


def with_decimals(rows: DataFrame, intervals: Sequence[str] = (AS_CHOSEN, RESELECTED)) -> DataFrame:
    """Return rows of a table with a column ``decimals``, at which place after the point a cell's numbers end.

    A cell without an interval is shown like the middle one of its domain's cells that have one.

    Args:
        rows: what is to be shown.
        intervals: which intervals a cell shows.
    """
    cells = rows.to_dict("records")
    found = pd.Series([_decimals(cell, intervals) for cell in cells], index=rows.index, dtype=float)
    middle = found.groupby(rows["domain"]).transform("quantile", 0.5, interpolation="lower")
    usual = pd.Series([_last_place(cell["score"], EXACT) for cell in cells], index=rows.index)
    return rows.assign(decimals=found.fillna(middle).fillna(usual).astype(int))


CANNOT = "cannot change it"
"""What is said of a method and a metric that no setting of it can change."""


def score_text(cell: Cell, cannot_change: Collection[str] = ()) -> str:
    """Return a score, with its difference from what it is compared with, both intervals and the p-value.

    Args:
        cell: a row of a table, with decimals.
        cannot_change: the methods no setting of which can change the score.
    """
    if math.isnan(cell["score"]):
        return "n/a"
    decimals = cell["decimals"]
    score = number_text(cell["score"], decimals)
    if "other" in cell:
        score = f"{number_text(cell['other'], decimals)}{_at(cell, 'other_')} → {score}"
    if not math.isnan(cell["deviation"]):
        score += f" ± {number_text(cell['deviation'], decimals)}"
    score += _at(cell)
    if math.isnan(cell["difference"]):
        return score
    if cell.get("method") in cannot_change:
        return f"{score} ({CANNOT})"
    if _is_pretrained(cell):
        return f"{score} (pretrained)"
    return f"{score} ({_difference(cell, (AS_CHOSEN, RESELECTED))})"


def _at(cell: Cell, whose: str = "") -> str:
    """Return the temperature that a score is at, if any."""
    temperature = cell.get(f"{whose}temperature")
    return "" if pd.isna(temperature) else f" at {temperature}"


def gain_text(cell: Cell) -> str:
    """Return a difference with the interval that repeats the choice, and the p-value."""
    return "n/a" if math.isnan(cell["score"]) else _difference(cell, (RESELECTED,))


def number_text(value: float, decimals: int, sign: str = "") -> str:
    """Return a number rounded at a place after the point, before it where that is negative.

    Args:
        value: the number; one that is not finite is a word.
        decimals: the place.
        sign: ``+`` to write the sign of positive numbers too.
    """
    if not math.isfinite(value):
        return f"{value:{sign}}" if math.isinf(value) else "nan"
    if -decimals > LONGEST:
        return f"{value:{sign}.{max(0, decimals - _last_place(value, 1))}e}"
    return f"{round(value, decimals):{sign}z.{max(0, decimals)}f}"


def time_text(seconds: float) -> str:
    """Return a duration as hours, minutes and seconds."""
    return str(timedelta(seconds=round(seconds)))


def _difference(cell: Cell, intervals: Sequence[str]) -> str:
    decimals = cell["decimals"]
    facts = [number_text(cell["difference"], decimals, "+")]
    for which in intervals:
        left, right = "{}" if which == RESELECTED else "[]"
        low, high = cell[f"low{which}"], cell[f"high{which}"]
        if not (math.isnan(low) or math.isnan(high)):
            ends = f"{number_text(low, decimals, '+')}, {number_text(high, decimals, '+')}"
            facts.append(f"{left}{ends}{right}")
    if not math.isnan(cell["p_holm"]):
        facts.append(f"p={cell['p_holm']:.3f}" if cell["p_holm"] >= 0.001 else "p<0.001")
    return " ".join(facts)


def keeps_pretrained(rows: DataFrame) -> "pd.Series[bool]":
    """Return which choices, compared with the pretrained model, are that model, at the same temperature."""
    return pd.Series([_is_pretrained(cell) for cell in rows.to_dict("records")], rows.index, dtype=bool)


def _is_pretrained(cell: Cell) -> bool:
    trial = cell.get("trial", pd.NA)
    if trial is pd.NA or trial != PRETRAINED_NUMBER:
        return False
    return bool(cell.get("temperature") == cell.get("other_temperature"))


def _decimals(cell: Cell, intervals: Sequence[str]) -> int | None:
    """Return the place of the second digit of the half-width of the narrowest interval that has a width.

    Where none has, that of the difference. None where that is nothing either, or the cell has no interval.
    """
    if _is_pretrained(cell):
        return None
    largest = max(abs(cell["score"]), abs(cell["score"] - cell["difference"]))
    sizes = [abs(cell[f"high{which}"] - cell[f"low{which}"]) / 2 for which in intervals]
    if all(map(math.isnan, sizes)):
        return None
    for each in (sizes, [abs(cell["difference"])]):
        if known := [size for size in each if NOISE * largest < size < math.inf]:
            return _last_place(min(known), DIGITS)
    return None


def _last_place(value: float, digits: int) -> int:
    """Return the place after the point of the last of a number's significant digits."""
    if value == 0 or not math.isfinite(value):
        return digits - 1
    return digits - 1 - int(f"{value:.{digits - 1}e}".partition("e")[2])
