"""What each protocol chooses in a run, and what it would have chosen on resampled examples."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nvreg.metrics import METRICS
from nvreg.report.protocols import ORACLE, PRETRAINED, Validation, choose, oracle
from nvreg.report.reading import Arm, Run
from nvreg.report.statistics import RESAMPLES, Array, standard_error

Numbers = NDArray[np.intp]


@dataclass(frozen=True)
class Pick:
    """The settings that a selection puts into one column of a table, which shows their mean.

    Attributes:
        run: where they were tried.
        domain: the test set of the column.
        trials: their numbers; more than one in the in-domain column of a protocol that chooses a setting for
            each domain.
        redrawn: for each of them, what the same selection chooses on each resample of the examples that it
            looks at, ``(RESAMPLES,)``; none where repeating it means nothing.
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


Selection = Mapping[str, Pick]
"""What a protocol chose for each domain that it applies to."""


def pretrained(run: Run) -> Selection:
    """Return the choice of the pretrained model for all domains."""
    always = np.zeros(RESAMPLES, dtype=np.intp)
    return {domain: Pick(run, domain, (PRETRAINED,), (always,)) for domain in run.domains}


def select(run: Run, arm: Arm, protocols: Iterable[str]) -> Mapping[str, Selection]:
    """Return each protocol's choice among an arm's trials, by the run's selection metric.

    Raises:
        UserError: if an example file of a validation set cannot be read.
    """
    selections = {}
    for protocol in protocols:
        observed, redrawn = chosen(run, arm, protocol), _redrawn(run, arm, protocol)
        selections[protocol] = {
            domain: Pick(run, domain, numbers, redrawn.get(domain, ()))
            for domain, numbers in observed.items()
            if numbers
        }
    return selections


def chosen(run: Run, arm: Arm, protocol: str) -> dict[str, tuple[int, ...]]:
    """Return the numbers of the trials that a protocol chooses for each domain; none: it does not apply.

    Raises:
        UserError: if an example file of the in-domain validation set cannot be read.
    """
    candidates = run.candidates(arm)

    def scores(domain: str, split: str) -> Array:
        return _oriented(
            run, [run.score(number, domain, split, run.selection_metric) for number in candidates]
        )

    if protocol == ORACLE:
        choice = oracle({domain: scores(domain, "test") for domain in run.domains}, run.in_domain)
    else:
        validation = {domain: scores(domain, "validation") for domain in run.validated}
        choice = choose(protocol, _validation(run, candidates, validation), run.out_of_domain)
    return {domain: tuple(candidates[int(place)] for place in places) for domain, places in choice.items()}


def _redrawn(run: Run, arm: Arm, protocol: str) -> dict[str, tuple[Numbers, ...]]:
    """Return what `chosen` would on each resample of the validation examples.

    Strength, and how much is tolerated, stay as on the whole sets. The oracle's choice is not repeated: it
    would be scored on the resample that it was made on.
    """
    if protocol == ORACLE:
        return {}
    candidates = run.candidates(arm)

    def scores(domain: str) -> Array:
        columns = [run.resampled(number, domain, "validation", run.selection_metric) for number in candidates]
        return _oriented(run, np.stack(columns, axis=-1))

    validation = _validation(run, candidates, {domain: scores(domain) for domain in run.validated})
    choice = choose(protocol, validation, run.out_of_domain)
    return {domain: tuple(np.array(candidates)[places] for places in choice[domain]) for domain in choice}


def _validation(run: Run, candidates: Iterable[int], scores: Mapping[str, Array]) -> Validation:
    metric = run.selection_metric
    pretrained, *others = [
        run.resampled(number, run.in_domain, "validation", metric) for number in candidates
    ]
    with np.errstate(invalid="ignore"):  # of infinities
        errors = [0.0, *(standard_error(resampled - pretrained) for resampled in others)]
    strength = [float(run.trials[number].strength or 0) for number in candidates]
    return Validation(run.in_domain, scores, np.array(errors), np.array(strength))


def _oriented(run: Run, scores: ArrayLike) -> Array:
    return np.asarray(scores) * (1.0 if METRICS[run.selection_metric].higher_is_better else -1.0)
