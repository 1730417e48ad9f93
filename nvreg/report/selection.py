"""What each protocol chooses in a run, and what it would have chosen on resampled examples."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nvreg.errors import UserError, expected_one_of
from nvreg.methods import METHODS
from nvreg.metrics import METRICS
from nvreg.protocols import PROTOCOLS, Evidence
from nvreg.report.reading import Arm, Run, read_run
from nvreg.report.statistics import RESAMPLES, Array, standard_error
from nvreg.results import PRETRAINED, PRETRAINED_NUMBER, Trial

Numbers = NDArray[np.intp]
"""The number of a trial on each resample, ``(RESAMPLES,)``."""


@dataclass(frozen=True)
class Pick:
    """The settings that a protocol puts into one column of a table, which shows their mean.

    Attributes:
        run: where they were tried.
        domain: the test set of the column.
        trials: their numbers; more than one in the in-domain column of a protocol that chooses a setting for
            each domain.
        redrawn: for each of them, what the same protocol chooses on each resample of the examples that it
            looks at; none where repeating it means nothing.
    """

    run: Run
    domain: str
    trials: tuple[int, ...]
    redrawn: tuple[Numbers, ...] = ()

    def score(self, metric: str) -> float:
        """Return the value of a metric on the test set."""
        return float(np.mean([self.run.score(number, self.domain, "test", metric) for number in self.trials]))

    def resampled(self, metric: str) -> Array:
        """Return the value on each resample of the test set, of the settings as they were chosen."""
        each = [self.run.resampled(number, self.domain, "test", metric) for number in self.trials]
        return np.mean(each, axis=0)

    def reselected(self, metric: str) -> Array:
        """Return the value on each resample of the test set, of what is chosen on a resample."""
        scores = np.zeros((len(self.redrawn), RESAMPLES))
        for row, numbers in zip(scores, self.redrawn, strict=True):
            for number in np.unique(numbers):
                drawn = numbers == number
                row[drawn] = self.run.resampled(int(number), self.domain, "test", metric, drawn)
        return scores.mean(axis=0)

    def statistics(self, metric: str) -> list[Array]:
        """Return the sufficient statistics of each of the settings on the test set."""
        group = METRICS[metric].group
        return [self.run.statistics(number, self.domain, "test", group) for number in self.trials]


ProtocolChoice = Mapping[str, Pick]
"""A protocol's pick for each domain that it applies to."""


def pretrained(run: Run) -> ProtocolChoice:
    """Return the choice of the pretrained model for all domains."""
    always = np.full(RESAMPLES, PRETRAINED_NUMBER, dtype=np.intp)
    return {domain: Pick(run, domain, (PRETRAINED_NUMBER,), (always,)) for domain in run.domains}


def choose(run: Run, arm: Arm, protocols: Iterable[str]) -> Mapping[str, ProtocolChoice]:
    """Return each protocol's choice among an arm's trials, by the run's selection metric.

    Raises:
        UserError: if an example file of a validation set cannot be read.
    """
    choices = {}
    for protocol in protocols:
        observed, redrawn = chosen_numbers(run, arm, protocol), _redrawn(run, arm, protocol)
        choices[protocol] = {
            domain: Pick(run, domain, numbers, redrawn.get(domain, ()))
            for domain, numbers in observed.items()
            if numbers
        }
    return choices


def chosen_numbers(run: Run, arm: Arm, protocol: str) -> dict[str, tuple[int, ...]]:
    """Return the numbers of the trials that a protocol chooses for each domain; none: it does not apply.

    Raises:
        UserError: if an example file of the in-domain validation set cannot be read.
    """
    columns = _chosen_by(run, arm, protocol, run.score)
    return {domain: tuple(map(int, numbers)) for domain, numbers in columns.items()}


def _redrawn(run: Run, arm: Arm, protocol: str) -> dict[str, tuple[Numbers, ...]]:
    """Return what `chosen_numbers` would on each resample of the validation examples.

    Strength, and how much is tolerated, stay as on the whole sets. The choice of an upper bound is not
    repeated: it would be scored on the resample that it was made on.
    """
    return {} if PROTOCOLS[protocol].is_upper_bound else _chosen_by(run, arm, protocol, run.resampled)


def _chosen_by(
    run: Run, arm: Arm, protocol: str, score: Callable[[int, str, str, str], ArrayLike]
) -> dict[str, tuple[Numbers, ...]]:
    """Return the numbers that a protocol chooses by scores of the run's selection metric, of any shape."""
    metric, split, candidates = run.selection_metric, PROTOCOLS[protocol].split, run.candidates(arm)
    sign = 1.0 if METRICS[metric].higher_is_better else -1.0
    scores = {
        domain: sign
        * np.stack([np.asarray(score(each, domain, split, metric)) for each in candidates], axis=-1)
        for domain in run.domains_with(split)
    }
    model, *others = [run.resampled(each, run.in_domain, "validation", metric) for each in candidates]
    with np.errstate(invalid="ignore"):  # infinite scores are a destroyed model's
        errors = [0.0, *(standard_error(resampled - model) for resampled in others)]
    strength = [float(run.trials[each].strength or 0) for each in candidates]
    evidence = Evidence(run.in_domain, scores, np.array(errors), np.array(strength))
    columns = PROTOCOLS[protocol].choose(evidence, run.out_of_domain)
    return {name: tuple(np.array(candidates)[each] for each in places) for name, places in columns.items()}


class ChosenTrial(NamedTuple):
    """The one trial that a protocol chose, where, and among the trials of which search."""

    run: Run
    arm: Arm
    trial: Trial


def choose_trial(
    directory: Path,
    protocol: str,
    *,
    domain: str | None = None,
    method: str | None = None,
    seed: int | None = None,
) -> ChosenTrial:
    """Return the one trial that a protocol chooses.

    Args:
        directory: what ``nvreg sweep`` wrote.
        protocol: a selection protocol.
        domain: the out-of-domain set to choose for, which some protocols need.
        method: a method of the run, where it tried several.
        seed: a seed of its search, where there were several.

    Raises:
        UserError: if the directory is not a run's, more has to be said to choose one trial, or the protocol
            does not apply to the domain.
    """
    by_domain = PROTOCOLS[protocol].by_domain
    run = read_run(directory)
    arm = find_arm(run, method, seed)
    if domain not in (None, *run.domains):
        raise UserError(f"--domain: {expected_one_of(run.domains, domain)}")
    if by_domain and domain not in run.out_of_domain:
        raise UserError(
            f"--domain: {expected_one_of(run.out_of_domain, domain)}; {protocol} chooses for each by itself"
        )
    numbers = chosen_numbers(run, arm, protocol)[domain or run.in_domain]
    if not numbers:
        raise UserError(
            f"expected a protocol that applies to {domain}, got {protocol}, "
            "which has no validation set to choose on; choose another"
        )
    return ChosenTrial(run, arm, run.trials[numbers[0]])


def find_arm(run: Run, method: str | None, seed: int | None, *, first: bool = False) -> Arm:
    """Return the search of a method and a seed; where one is not named, the only one or else the ``first``.

    Raises:
        UserError: if there is no such search, or there are several and not the first is wanted, or no setting
            of it is measured yet.
    """
    arms = list(run.sweeps)
    for field, option, wanted in (("method", "--method", method), ("seed", "--seed", seed)):
        known = dict.fromkeys(getattr(arm, field) for arm in arms)
        if wanted not in known and (wanted is not None or (len(known) > 1 and not first)):
            raise UserError(f"{option}: {expected_one_of(known, wanted, 'one of the run,')}")
        arms = [arm for arm in arms if wanted in (None, getattr(arm, field))]
    arm = next(filter(run.is_measured, arms), arms[0]) if first else arms[0]
    if not run.is_measured(arm):
        raise UserError(
            f"expected a method with settings that are measured, got {arm.method} with seed {arm.seed}, of "
            f"which none is in {run.directory}; run the sweep again to continue it"
        )
    return arm


def leaders(directory: Path, method: str, seed: int) -> Iterator[tuple[str, str]]:
    """Yield each honest protocol of a run's experiment with what it would choose of one search so far.

    A sweep shows it while it runs. Nothing comes from a test set.

    Raises:
        UserError: as `nvreg.report.reading.read_run`.
    """
    run = read_run(directory)
    for protocol in run.experiment.selection.protocols:
        if not PROTOCOLS[protocol].is_upper_bound:
            columns = chosen_numbers(run, Arm(method, seed), protocol)
            numbers = {number for domain in run.out_of_domain for number in columns[domain]}
            described = (_describe(run.trials[number]) for number in sorted(numbers))
            yield protocol, "; ".join(described) or "n/a"


def _describe(trial: Trial) -> str:
    if trial.number == PRETRAINED_NUMBER:
        return "the pretrained model"
    return f"{trial.number} ({setting_text(trial)})"


def setting_text(trial: Trial) -> str:
    """Return a trial's setting as one short text."""
    if trial.number == PRETRAINED_NUMBER:
        return PRETRAINED
    return str(METHODS[trial.method].setting_type.from_dict(trial.settings))
