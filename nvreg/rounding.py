"""Numbers as text, with as many digits as their interval tells."""

from __future__ import annotations

import math

DIGITS = 2
"""Significant digits of the half-width of an interval: all numbers beside it end where these do."""

EXACT = 4
"""Significant digits of a score where nothing says how far it is known."""

RELATIVE_NOISE = 1e-6
"""Scores agree to so much, relatively, however examples are batched: a smaller width is none."""

LONGEST = 4
"""Numbers that are known to more than so many zeros before the point are written with an exponent."""


def decimals_of(number: float, low: float | None, high: float | None) -> int:
    """Return the place after the point at which a number ends that has an interval, or None for its ends.

    It is that of the second digit of the half-width. Where there is no width, the number has `EXACT` digits.
    """
    size = math.nan if low is None or high is None else abs(high - low) / 2
    is_width = RELATIVE_NOISE * abs(number) < size < math.inf
    return last_place(size, DIGITS) if is_width else last_place(number, EXACT)


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
        return f"{value:{sign}.{max(0, decimals - last_place(value, 1))}e}"
    return f"{round(value, decimals):{sign}z.{max(0, decimals)}f}"


def with_interval(number: float, low: float | None, high: float | None) -> str:
    """Return a number with its interval in brackets, or by itself where it has none."""
    decimals = decimals_of(number, low, high)
    if low is None or high is None:
        return number_text(number, decimals)
    return f"{number_text(number, decimals)} [{number_text(low, decimals)}, {number_text(high, decimals)}]"


def last_place(value: float, digits: int) -> int:
    """Return the place after the point of the last of a number's significant digits."""
    if value == 0 or not math.isfinite(value):
        return digits - 1
    return digits - 1 - int(f"{value:.{digits - 1}e}".partition("e")[2])
