"""The settings of one run or several as points: what each changes on every domain, and what chose it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import fmean
from typing import Any, Literal, NamedTuple, Self

import numpy as np

from nvreg.metrics import METRICS
from nvreg.protocols import upper_bounds
from nvreg.report.analysis import Analysis
from nvreg.report.plot import change_of
from nvreg.report.reading import Run
from nvreg.report.selection import setting_text
from nvreg.results import PRETRAINED_NUMBER

Split = Literal["validation", "test"]


class Point(NamedTuple):
    """A setting of a run.

    Attributes:
        labels: ``run``, on a page of several, where repetitions have one name, and ``method``.
        run: the name of its run; empty on a page of one.
        trial: its number.
        setting: its setting as text, with its method's name where there are several.
        values: the value of each of its parameters, by role; the mean where it differs by layer.
        test: the change on each domain's test set, as it is drawn.
        validation: the same on validation sets.
        chosen: what chose it, for which domains.
        is_selected: whether some of that is a selection, and no upper bound.
    """

    labels: Mapping[str, str]
    run: str
    trial: int
    setting: str
    values: Mapping[str, float]
    test: Mapping[str, float]
    validation: Mapping[str, float]
    chosen: Sequence[str]
    is_selected: bool

    @property
    def name(self) -> str:
        """The name of the trial, with its run's where there are several."""
        return f"trial {self.trial} of {self.run}" if self.run else f"trial {self.trial}"


@dataclass(frozen=True, eq=False)
class Cloud:
    """The settings of one run, or of several that scored the same examples.

    Attributes:
        metric: the name of the metric whose changes are drawn, each from its own run's pretrained model.
        in_domain: the name of the domain that the models were tuned on.
        domains: the names of those that are drawn.
        groups: the runs by name; one without a name stands for a page of one run.
    """

    metric: str
    in_domain: str
    domains: Sequence[str]
    groups: Mapping[str, Sequence[Analysis]]

    @classmethod
    def of_run(cls, analysis: Analysis) -> Self:
        """Return the settings of one run."""
        run = analysis.run
        return cls(run.selection_metric, run.in_domain, run.domains, {"": [analysis]})

    @cached_property
    def points(self) -> list[Point]:
        """The completed settings, run by run, in the order of measuring."""
        return [point for *_, points in self._runs for point in points.values()]

    @property
    def searches(self) -> dict[str, list[Point]]:
        """The completed settings of each search, in the order of measuring; two searches may share some."""
        return {
            " · ".join(filter(None, (name, run.label(arm)))): [
                points[number] for number in run.candidates(arm) if number in points
            ]
            for name, run, points in self._runs
            for arm in run.sweeps
        }

    @cached_property
    def _runs(self) -> list[tuple[str, Run, dict[int, Point]]]:
        """Every run with its name, empty on a page of one, and its points by the numbers of trials."""
        return [
            (own, each.run, {point.trial: point for point in self._points(name, own, each)})
            for name, group in self.groups.items()
            for each in group
            for own in [f"{name}/{each.run.directory.name}" if len(group) > 1 else name]
        ]

    @property
    def runs(self) -> list[tuple[str, Run]]:
        """The runs, each after its name, which is empty on a page of one."""
        return [(name, run) for name, run, _ in self._runs]

    @cached_property
    def methods(self) -> list[str]:
        """The names of the methods that have points."""
        return list(dict.fromkeys(point.labels["method"] for point in self.points))

    @property
    def is_reversed(self) -> bool:
        """Whether less is better."""
        return METRICS[self.metric].higher_is_better is False

    def out_of_domain(self, split: Split) -> list[str]:
        """Return the names of the sets that every run has scored of a split, but for the in-domain one."""
        return [name for name in self.scored[split] if name != self.in_domain]

    @cached_property
    def scored(self) -> dict[Split, list[str]]:
        """The names of the domains that every run has scored, by split."""
        runs = [each.run for group in self.groups.values() for each in group]
        splits: tuple[Split, ...] = ("validation", "test")
        return {
            split: [name for name in self.domains if all(name in run.domains_with(split) for run in runs)]
            for split in splits
        }

    def _points(self, group: str, name: str, analysis: Analysis) -> Iterator[Point]:
        run = analysis.run
        chosen, selected = self._chosen(analysis)
        tried = {each for group in self.groups.values() for one in group for each in one.run.methods}

        def changes(number: int, split: Split) -> dict[str, float]:
            found = {}
            for domain in self.scored[split]:
                score, other = (
                    run.score(each, domain, split, self.metric) for each in (number, PRETRAINED_NUMBER)
                )
                found[domain] = change_of(self.metric, score - other, other)
            return found

        for number, trial in run.trials.items():
            if number != PRETRAINED_NUMBER:
                yield Point(
                    {**({"run": group} if group else {}), "method": trial.method}, name, number,
                    setting_text(trial, with_method=len(tried) > 1), dict(_values(trial.settings)),
                    changes(number, "test"), changes(number, "validation"), chosen.get(number, ()),
                    number in selected,
                )  # fmt: skip

    def _chosen(self, analysis: Analysis) -> tuple[dict[int, list[str]], set[int]]:
        """Return what chose each trial, and the trials that some selection chose, which is no upper bound."""
        run = analysis.run
        chosen: dict[int, dict[str, list[str]]] = {}
        selected: set[int] = set()
        for arm, by_protocol in analysis.choices.items():
            for protocol, choice in by_protocol.items():
                for domain, pick in choice.items():
                    if domain not in self.domains or (domain == run.in_domain and len(run.domains) > 1):
                        continue
                    for number in pick.trials:
                        name = f"{run.label(arm)}, {protocol}" if len(run.sweeps) > 1 else protocol
                        chosen.setdefault(number, {}).setdefault(name, []).append(domain)
                        if protocol not in upper_bounds():
                            selected.add(number)
        named = {
            number: [f"{name} ({', '.join(domains)})" for name, domains in by.items()]
            for number, by in chosen.items()
        }
        return named, selected


def mean_change(changes: Mapping[str, float], names: Iterable[str]) -> float:
    """Return the mean change over some domains; NaN where one is not finite."""
    known = [changes[name] for name in names if name in changes]
    return fmean(known) if known and np.isfinite(known).all() else math.nan


def _values(settings: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """Yield the finite values of a setting by parameter and role."""
    for parameter, written in settings.items():
        for role, value in written.items() if isinstance(written, Mapping) else [("", written)]:
            each = np.asarray([float(one) for one in (value if isinstance(value, list) else [value])])
            if np.isfinite(each).any():
                yield f"{parameter} {role}".strip(), float(each[np.isfinite(each)].mean())
