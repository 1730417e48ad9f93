"""Interleaved timing: everything that is compared runs in every round, so that drift hits all alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch


class Ratio(NamedTuple):
    """The quartiles, over rounds, of one time divided by another of the same round."""

    low: float
    median: float
    high: float

    def __str__(self) -> str:
        return f"{self.median:.2f} [{self.low:.2f}, {self.high:.2f}]"


def interleaved(calls: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Return the seconds of every call in every round, after a round that does not count."""
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(rounds + 1):
        for name, call in calls.items():
            started = time.perf_counter()
            call()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            if number:
                seconds[name].append(time.perf_counter() - started)
    return seconds


def ratio(seconds: list[float], base: list[float]) -> Ratio:
    """Compare two lists of seconds, round by round."""
    low, median, high = statistics.quantiles([s / b for s, b in zip(seconds, base, strict=True)], n=4)
    return Ratio(low, median, high)
