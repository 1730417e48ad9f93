"""What each protocol chooses in a run, and what it would have chosen on resampled examples."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nvreg.metrics import METRICS
from nvreg.protocols import PROTOCOLS, Evidence
from nvreg.report.reading import Arm, Run
from nvreg.report.statistics import RESAMPLES, Array, standard_error
from nvreg.results import PRETRAINED_NUMBER

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
    return {domain: Pick(run, domain, (PRETRAINED_NUMBER,), (always,)) for domain in run.domains}


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
    columns = _chosen_by(run, arm, protocol, run.score)
    return {domain: tuple(map(int, numbers)) for domain, numbers in columns.items()}


def _redrawn(run: Run, arm: Arm, protocol: str) -> dict[str, tuple[Numbers, ...]]:
    """Return what `chosen` would on each resample of the validation examples.

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
    pretrained, *others = [run.resampled(each, run.in_domain, "validation", metric) for each in candidates]
    with np.errstate(invalid="ignore"):  # infinite scores are a destroyed model's
        errors = [0.0, *(standard_error(resampled - pretrained) for resampled in others)]
    strength = [float(run.trials[each].strength or 0) for each in candidates]
    evidence = Evidence(run.in_domain, scores, np.array(errors), np.array(strength))
    columns = PROTOCOLS[protocol].choose(evidence, run.out_of_domain)
    return {name: tuple(np.array(candidates)[each] for each in places) for name, places in columns.items()}
