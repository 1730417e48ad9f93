"""A run with what each protocol chose in it, and the weight noise that matches what was chosen of NV.

The noise that changes attention outputs as much as a setting of NV is a perturbation as large as NV's without
its direction (docs/controls.md). It is matched without a look at any score.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Self

import numpy as np

from nvreg.protocols import PROTOCOLS
from nvreg.report.reading import Arm, Run, read_run
from nvreg.report.selection import ChoicesByArm, Numbers, Pick, ProtocolChoice, choose, pretrained
from nvreg.report.temperature import TEMPERED, tempered, tempered_metrics
from nvreg.results import PRETRAINED_NUMBER

NV = "nv"
NOISE = "weight-noise"
MATCHED = f"{NOISE} matched"
"""Stands for a method in the tables."""

FACTOR = 1.5
"""Changes further apart are no match."""

NO_MATCH = f"no weight noise is known to change attention as much, to a factor of {FACTOR}"


@dataclass(frozen=True, eq=False)
class Analysis:
    """A run, and what protocols choose in it.

    Attributes:
        run: whose trials they are.
        choices: what each protocol chooses among the trials of each arm, and what matches that as the arm of
            `MATCHED`; after temperature, the pretrained model at its own as the arm `TEMPERED`.

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
    """Return the noise that matches what each protocol chose of NV, for each seed that tried both.

    A domain for which there is none is left out, and so are upper bounds, which are no selection. What is
    chosen of NV on a resample has the nearest noise, however far.
    """
    return {
        Arm(MATCHED, arm.seed): {
            protocol: _matched(run, arm.seed, choice)
            for protocol, choice in by_protocol.items()
            if not PROTOCOLS[protocol].is_upper_bound
        }
        for arm, by_protocol in choices.items()
        if arm.method == NV and Arm(NOISE, arm.seed) in choices
    }


def change(run: Run, number: int) -> float:
    """Return how much a completed trial changes attention outputs; NaN if that was not measured."""
    measured = run.trials[number].change
    return 0.0 if number == PRETRAINED_NUMBER else math.nan if measured is None else float(measured)


def nearest(run: Run, seed: int | None, number: int) -> int | None:
    """Return the noise whose change is nearest to that of a trial of NV, by its logarithm.

    Args:
        run: where both were tried.
        seed: the seed of both searches.
        number: the number of the trial of NV.

    Returns:
        A trial's number: the pretrained model's where the trial changes nothing. None if the change of the
        trial, or of all noise, is unknown or not finite.
    """
    ours = change(run, number)
    if ours == 0:
        return PRETRAINED_NUMBER
    noise = [each for each in run.candidates(Arm(NOISE, seed)) if 0 < change(run, each) < math.inf]
    if not noise or not math.isfinite(ours):
        return None
    return min(noise, key=lambda each: abs(math.log(change(run, each) / ours)))


def is_match(run: Run, number: int, noise: int) -> bool:
    """Return whether noise changes attention outputs as much as a trial of NV, to `FACTOR`."""
    ours, theirs = change(run, number), change(run, noise)
    return max(ours, theirs) <= FACTOR * min(ours, theirs)


def _matched(run: Run, seed: int | None, choice: ProtocolChoice) -> ProtocolChoice:
    found = {}
    for domain, pick in choice.items():
        noise = tuple(
            near
            for number in pick.trials
            if (near := nearest(run, seed, number)) is not None and is_match(run, number, near)
        )
        if len(noise) == len(pick.trials):
            found[domain] = Pick(run, domain, noise, _redrawn(run, seed, pick.redrawn))
    return found


def _redrawn(run: Run, seed: int | None, redrawn: tuple[Numbers, ...]) -> tuple[Numbers, ...]:
    """Return the nearest noise on each resample; none where it is unknown on some."""
    noise = {int(number): nearest(run, seed, int(number)) for number in np.unique(redrawn)}
    if None in noise.values():
        return ()
    return tuple(np.array([noise[int(number)] for number in numbers], dtype=np.intp) for numbers in redrawn)
