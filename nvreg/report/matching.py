"""Weight noise of the size of NV: for what NV chose, the noise that changes attention outputs as much.

It is a perturbation as large as NV's without its direction (docs/controls.md). No score is looked at.
"""

import math
from collections.abc import Mapping

import numpy as np

from nvreg.protocols import PROTOCOLS
from nvreg.report.reading import Arm, Run
from nvreg.report.selection import Numbers, Pick, Selection
from nvreg.results import PRETRAINED_NUMBER

NV = "nv"
NOISE = "weight-noise"
MATCHED = f"{NOISE} matched"
"""Stands for a method in the tables."""

FACTOR = 1.5
"""Changes further apart are no match."""

NO_MATCH = f"no weight noise is known to change attention as much, to a factor of {FACTOR}"


def match(run: Run, selections: Mapping[Arm, Mapping[str, Selection]]) -> dict[Arm, Mapping[str, Selection]]:
    """Return the noise that matches what each protocol chose of NV, for each seed that tried both.

    A domain for which there is none is left out, and so is the oracle, which is no selection. What is chosen
    of NV on a resample has the nearest noise, however far.
    """
    return {
        Arm(MATCHED, arm.seed): {
            protocol: _matched(run, arm.seed, selection)
            for protocol, selection in by_protocol.items()
            if not PROTOCOLS[protocol].is_upper_bound
        }
        for arm, by_protocol in selections.items()
        if arm.method == NV and Arm(NOISE, arm.seed) in selections
    }


def change(run: Run, number: int) -> float:
    """Return how much a completed trial changes attention outputs; NaN if that was not measured."""
    measured = run.trials[number].change
    return 0.0 if number == PRETRAINED_NUMBER else math.nan if measured is None else float(measured)


def nearest(run: Run, seed: int | None, number: int) -> int | None:
    """Return the noise whose change is nearest to that of a trial of NV, by its logarithm.

    Args:
        run: where both were tried.
        seed: of the search of both.
        number: of the trial.

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


def _matched(run: Run, seed: int | None, selection: Selection) -> Selection:
    found = {}
    for domain, pick in selection.items():
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
