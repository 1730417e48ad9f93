"""The search of one method with one seed: which setting comes next, and which is stopped early."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from pandas import DataFrame

from nvreg.metrics import Array, Metric, statistics_of
from nvreg.metrics.randomisation import p_value
from nvreg.metrics.temperature import ALTERNATIVES, LABELS, SHOWN, TEMPERED, at_best, temperatures_of
from nvreg.parameters import Setting
from nvreg.samplers import TPE, Sampler, Scores

RACE_LEVEL = 0.05
"""The level of the test on each validation set; a setting has to fail on all of them to be stopped."""

RACE_SWAPS = 999
"""Random swaps of the test at most, which tell a p-value of `RACE_LEVEL` to less than a hundredth."""

FirstExamples = Mapping[str, tuple[Array, ...]]
"""By domain, sufficient statistics of the first examples of its validation set, ``(examples, k)``: as they
are and, where the metric has a table after temperature, at the temperature that suits them best."""


class Search:
    """What a sweep tries of one method with one seed: a list of settings, then what the sampler draws.

    Args:
        method: the method's name.
        setting_type: the type of its settings.
        seed: the sampler's.
        settings: known beforehand.
        sampler: draws the others.
        draws: how many others there are.

    Attributes:
        planned: how many settings there will be, those drawn included.
    """

    def __init__(
        self,
        method: str,
        setting_type: type[Setting],
        seed: int,
        settings: Sequence[Setting],
        sampler: Sampler,
        draws: int = 0,
    ) -> None:
        self.method, self.setting_type, self.seed, self.settings = method, setting_type, seed, settings
        self.planned = len(settings) + draws
        self._left, self._listed, self._known = deque(settings), frozenset(settings), set(settings)
        self._tpe = sampler if isinstance(sampler, TPE) else None
        self._draws = draws

    def ask(self) -> Setting | None:
        """Return the next setting, or None where there is none left."""
        if self._left:
            return self._left.popleft()
        if self._tpe is None or self._draws <= 0:
            return None
        self._draws -= 1
        drawn = self._tpe.ask(self._known)
        self._known.add(drawn)
        return drawn

    def covers(self, setting: Setting) -> bool:
        """Return whether a setting that was measured before belongs to this search."""
        return self._tpe is not None or setting in self._listed

    def tell(self, setting: Setting, scores: Scores | None) -> None:
        """Take note of what a setting scored on the validation sets, or that it has no scores."""
        if self._tpe is not None:
            self._tpe.tell(setting, scores)

    def remember(self, setting: Setting, scores: Scores | None) -> None:
        """Take note of a setting that was drawn and measured before this search began anew."""
        if setting not in self._listed:
            self._draws -= 1
            self._known.add(setting)
            self.tell(setting, scores)

    def retry(self, setting: Setting) -> None:
        """Have a setting that was drawn before this search began anew measured again, before others."""
        if setting not in self._listed:
            self._draws -= 1
            self._known.add(setting)
            self._left.append(setting)

    def copy_study(self, file: Path, say: Callable[[str], None]) -> None:
        """Copy what TPE is told to a database, for Optuna's tools (see `nvreg.samplers.TPE.copy_to`)."""
        if self._tpe is not None:
            self._tpe.copy_to(file, f"{self.method}-{self.seed}", say)


def first_examples(frame: DataFrame, metric: Metric, temperatures: Sequence[float]) -> tuple[Array, ...]:
    """Return the statistics of examples that a race is decided by, as they are and at their best temperature.

    Args:
        frame: scores of the examples.
        metric: what settings are chosen on.
        temperatures: the evaluation's.
    """
    names = [name for name in (metric.group, LABELS, ALTERNATIVES, TEMPERED) if name in frame]
    columns = {name: statistics_of(frame, name) for name in names}
    as_they_are = columns[metric.group]
    if metric.group not in SHOWN or len(temperatures_of(names, temperatures)) < 2:
        return (as_they_are,)
    return as_they_are, at_best(columns, metric.group, temperatures)


def is_clearly_worse(metric: Metric, setting: FirstExamples, incumbent: FirstExamples) -> bool:
    """Return whether a setting is worse than the incumbent on every validation set, so that it is stopped.

    On each, as it is and after temperature, a one-sided test of the metric by approximate randomisation has
    to reject "not worse" at `RACE_LEVEL`, or the setting has no finite score where the incumbent has one. A
    setting that is better anywhere, or for which it is not clear, goes on.

    Args:
        metric: what settings are chosen on.
        setting: statistics of the first examples of each validation set.
        incumbent: those of the same examples under the best setting so far.
    """
    return all(
        _is_worse(metric, ours, theirs, domain)
        for domain, rows in setting.items()
        for ours, theirs in zip(rows, incumbent[domain], strict=True)
    )


def _is_worse(metric: Metric, ours: Array, theirs: Array, domain: str) -> bool:
    if not np.isfinite(metric.score(ours)):
        return bool(np.isfinite(metric.score(theirs)))
    p = p_value(metric, [ours], [theirs], f"{domain}.validation", alternative="worse", swaps=RACE_SWAPS)
    return p < RACE_LEVEL
