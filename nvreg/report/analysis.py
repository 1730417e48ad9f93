"""A run with what each protocol chose in it, and the weight noise that matches what was chosen of NV.

The noise that changes attention outputs as much as a setting of NV is a perturbation as large as NV's without
its direction (docs/controls.md). It is matched without a look at any score.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from nvreg.protocols import PROTOCOLS
from nvreg.report.reading import Arm, Run, read_run
from nvreg.report.selection import Numbers, Pick, ProtocolChoice, choose
from nvreg.results import PRETRAINED_NUMBER

NV = "nv"
NOISE = "weight-noise"
MATCHED = f"{NOISE} matched"
"""Stands for a method in the tables."""

FACTOR = 1.5
"""Changes further apart are no match."""

NO_MATCH = f"no weight noise is known to change attention as much, to a factor of {FACTOR}"

ChoicesByArm = Mapping[Arm, Mapping[str, ProtocolChoice]]
"""The choice of each protocol, by its name, among the trials of each arm."""


class Analysis(NamedTuple):
    """A run, what protocols choose among its trials, and what matches that as the arm of `MATCHED`.

    Nothing is chosen in an arm of which no setting is measured.
    """

    run: Run
    choices: ChoicesByArm


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
    return Analysis(run, choices | match(run, choices))


def match(run: Run, choices: ChoicesByArm) -> dict[Arm, Mapping[str, ProtocolChoice]]:
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
