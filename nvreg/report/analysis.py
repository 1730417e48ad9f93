"""A run with what each protocol chose in it, and what matches that of methods that are matched to another.

Weight noise that changes attention outputs as much as a setting of NV is a perturbation as large as NV's
without its direction (docs/controls.md). It is matched without a look at any score.
"""

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np

from nvreg.methods import METHODS
from nvreg.protocols import PROTOCOLS
from nvreg.report.reading import Arm, Run, read_run
from nvreg.report.selection import ChoicesByArm, Numbers, Pick, ProtocolChoice, choose, pretrained
from nvreg.report.temperature import TEMPERED, tempered, tempered_metrics
from nvreg.results import PRETRAINED_NUMBER

NV = "nv"

FACTOR = 1.5
"""Changes further apart are no match."""

_MATCHED = " matched"


class Matching(NamedTuple):
    """A method whose settings are set beside those of another, by how much both change attention outputs.

    Attributes:
        method: the name of the one that is matched.
        to: the name of the other.
    """

    method: str
    to: str

    @property
    def label(self) -> str:
        """What stands for a method in the tables, where it is what matches."""
        return f"{self.method}{_MATCHED}"

    @property
    def words(self) -> str:
        """The name of the method that is matched, in words."""
        return self.method.replace("-", " ")

    @property
    def no_match(self) -> str:
        """Why nothing matches."""
        return f"no {self.words} is known to change attention as much, to a factor of {FACTOR}"


def matchings(methods: Collection[str]) -> list[Matching]:
    """Return which of some methods are matched to another of them."""
    known = [(name, METHODS[name].matched_to) for name in methods if name in METHODS]
    return [Matching(name, to) for name, to in known if to is not None and to in methods]


def matching_of(label: str) -> Matching | None:
    """Return which matching stands for a method in a table; None for a method that stands for itself."""
    method = label.removesuffix(_MATCHED)
    to = METHODS[method].matched_to if label != method and method in METHODS else None
    return None if to is None else Matching(method, to)


@dataclass(frozen=True, eq=False)
class Analysis:
    """A run, and what protocols choose in it.

    Attributes:
        run: whose trials they are.
        choices: what each protocol chooses among the trials of each arm, and what matches that as the arm of
            a `Matching`; after temperature, the pretrained model at its own as the arm `TEMPERED`.

    Nothing is chosen in an arm of which no setting is measured.
    """

    run: Run
    choices: ChoicesByArm

    @property
    def metrics(self) -> list[str]:
        """The names of the metrics that are shown; after temperature, of those that it changes."""
        return tempered_metrics(self.run) if TEMPERED in self.choices else self.run.metrics

    def model(self, protocol: str) -> ProtocolChoice:
        """Return the pretrained model as it is compared with what a protocol chooses."""
        return self.choices.get(TEMPERED, {}).get(protocol) or pretrained(self.run)

    @cached_property
    def after_temperature(self) -> Self | None:
        """The same choices, and the pretrained model, at temperatures that the protocols choose.

        None where the run kept nothing to try temperatures on, has no metric that they change, or no setting
        is measured yet.

        Raises:
            UserError: if an example file of a chosen trial cannot be read.
        """
        if len(self.run.temperatures) < 2 or not tempered_metrics(self.run) or not self.choices:
            return None
        return type(self)(self.run, tempered(self.run, self.choices))


def analyse(directory: Path, protocols: Sequence[str] = ()) -> Analysis:
    """Read a run and repeat its choices.

    Args:
        directory: what ``nvreg sweep`` wrote, finished or not.
        protocols: names of selection protocols; those of the experiment where none is given.

    Raises:
        UserError: if the directory is not a run's, the pretrained model is not yet measured, or a protocol is
            unknown.
    """
    for protocol in protocols:
        PROTOCOLS[protocol]  # raises where there is none
    run = read_run(directory)
    protocols = protocols or run.experiment.selection.protocols
    choices = {arm: choose(run, arm, protocols) for arm in run.sweeps if run.is_measured(arm)}
    return Analysis(run, {**choices, **match(run, choices)})


def match(run: Run, choices: ChoicesByArm) -> ChoicesByArm:
    """Return what matches what each protocol chose of another method, for each seed that tried both.

    A domain for which there is none is left out, and so are upper bounds, which are no selection. What is
    chosen of the other on a resample has the nearest match, however far.
    """
    return {
        Arm(matching.label, arm.seed): {
            protocol: _matched(run, matched, choice)
            for protocol, choice in by_protocol.items()
            if not PROTOCOLS[protocol].is_upper_bound
        }
        for matching in matchings(run.methods)
        for arm, by_protocol in choices.items()
        if arm.method == matching.to and (matched := Arm(matching.method, arm.seed)) in choices
    }


def change(run: Run, number: int) -> float:
    """Return how much a completed trial changes attention outputs; NaN if that was not measured."""
    measured = run.trials[number].change
    return 0.0 if number == PRETRAINED_NUMBER else math.nan if measured is None else float(measured)


def nearest(run: Run, matched: Arm, number: int) -> int | None:
    """Return the trial of an arm whose change is nearest to that of a trial of another, by its logarithm.

    Args:
        run: where both were tried.
        matched: the arm that is chosen from.
        number: the number of the other's trial.

    Returns:
        A trial's number: the pretrained model's where the other changes nothing. None if the change of the
        other, or of all trials of the arm, is unknown or not finite.
    """
    ours = change(run, number)
    if ours == 0:
        return PRETRAINED_NUMBER
    theirs = [each for each in run.candidates(matched) if 0 < change(run, each) < math.inf]
    if not theirs or not math.isfinite(ours):
        return None
    return min(theirs, key=lambda each: abs(math.log(change(run, each) / ours)))


def is_match(run: Run, number: int, other: int) -> bool:
    """Return whether two trials change attention outputs as much, to `FACTOR`."""
    ours, theirs = change(run, number), change(run, other)
    return max(ours, theirs) <= FACTOR * min(ours, theirs)


def _matched(run: Run, matched: Arm, choice: ProtocolChoice) -> ProtocolChoice:
    found = {}
    for domain, pick in choice.items():
        trials = tuple(
            near
            for number in pick.trials
            if (near := nearest(run, matched, number)) is not None and is_match(run, number, near)
        )
        if len(trials) == len(pick.trials):
            found[domain] = Pick(run, domain, trials, _redrawn(run, matched, pick.redrawn))
    return found


def _redrawn(run: Run, matched: Arm, redrawn: tuple[Numbers, ...]) -> tuple[Numbers, ...]:
    """Return the nearest trial of an arm on each resample; none where it is unknown on some."""
    near = {int(number): nearest(run, matched, int(number)) for number in np.unique(redrawn)}
    if None in near.values():
        return ()
    return tuple(np.array([near[int(number)] for number in numbers], dtype=np.intp) for numbers in redrawn)
