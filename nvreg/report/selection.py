"""What each protocol chooses in a run, and what it would have chosen on resampled examples."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nvreg.errors import UserError, expected_one_of
from nvreg.methods import METHODS
from nvreg.metrics import METRICS
from nvreg.metrics.resampling import RESAMPLES, Array, standard_error
from nvreg.protocols import PROTOCOLS, Evidence, Positions, Scores
from nvreg.report.reading import Arm, Run, read_run
from nvreg.report.unlabelled import unlabelled_scores
from nvreg.results import PRETRAINED, PRETRAINED_NUMBER, Trial
from nvreg.tasks import TASKS

Numbers = NDArray[np.intp]
"""The number of a trial on each resample, ``(RESAMPLES,)``."""

Score = Callable[[str, str], Array]
"""Takes a domain and a split, and returns the scores of candidates there, ``[..., candidates]``, the greater
the better."""


class Scored(NamedTuple):
    """One setting on one test set, its output at a temperature."""

    run: Run
    number: int
    domain: str
    temperature: float

    def score(self, metric: str) -> float:
        """Return the value of a metric."""
        return self.run.score(self.number, self.domain, "test", metric, self.temperature)

    def resampled(self, metric: str, which: NDArray[np.bool_] | None = None) -> Array:
        """Return the value on each resample, or on those that ``which`` marks."""
        return self.run.resampled(self.number, self.domain, "test", metric, which, self.temperature)

    def statistics(self, metric: str) -> Array:
        """Return the sufficient statistics of the metric."""
        return self.run.statistics(self.number, self.domain, "test", METRICS[metric].group, self.temperature)


@dataclass(frozen=True, eq=False)
class Pick:
    """The settings that a protocol puts into one column of a table, which shows their mean.

    Attributes:
        run: where they were tried.
        domain: the test set of the column.
        trials: their numbers; more than one in the in-domain column of a protocol that chooses a setting for
            each domain.
        redrawn: for each of them, what the same protocol chooses on each resample of the examples that it
            looks at; none where repeating it means nothing.
        temperatures: for each of them, what its output is scored at; none: all as they were measured, at 1.
        redrawn_temperatures: the same for what is redrawn.
    """

    run: Run
    domain: str
    trials: tuple[int, ...]
    redrawn: tuple[Numbers, ...] = ()
    temperatures: tuple[float, ...] = ()
    redrawn_temperatures: tuple[Array, ...] = ()

    @property
    def scored(self) -> tuple[Scored, ...]:
        """The settings on the test set."""
        chosen = zip(self.trials, self.temperatures or (1.0,) * len(self.trials), strict=True)
        return tuple(Scored(self.run, number, self.domain, temperature) for number, temperature in chosen)

    def score(self, metric: str) -> float:
        """Return the value of a metric on the test set."""
        return float(np.mean([each.score(metric) for each in self.scored]))

    def resampled(self, metric: str) -> Array:
        """Return the value on each resample of the test set, of the settings as they were chosen."""
        return np.mean([each.resampled(metric) for each in self.scored], axis=0)

    def reselected(self, metric: str) -> Array:
        """Return the value on each resample of the test set, of what is chosen on a resample."""
        if metric not in self._reselected:
            at_one = (np.ones(RESAMPLES),) * len(self.redrawn)
            chosen = zip(self.redrawn, self.redrawn_temperatures or at_one, strict=True)
            self._reselected[metric] = np.mean([self._redrawn(metric, *each) for each in chosen], axis=0)
        return self._reselected[metric]

    def _redrawn(self, metric: str, numbers: Numbers, temperatures: Array) -> Array:
        scores = np.empty(RESAMPLES)
        for number, temperature in sorted({*zip(numbers.tolist(), temperatures.tolist(), strict=True)}):
            drawn = (numbers == number) & (temperatures == temperature)
            scores[drawn] = Scored(self.run, number, self.domain, temperature).resampled(metric, drawn)
        return scores

    @cached_property
    def _reselected(self) -> dict[str, Array]:
        return {}


ProtocolChoice = Mapping[str, Pick]
"""A protocol's pick for each domain that it applies to."""

ChoicesByArm = Mapping[Arm, Mapping[str, ProtocolChoice]]
"""The choice of each protocol, by its name, among the trials of each arm."""


def pretrained(run: Run) -> ProtocolChoice:
    """Return the choice of the pretrained model for all domains."""
    redrawn = (always(PRETRAINED_NUMBER),)
    return {domain: Pick(run, domain, (PRETRAINED_NUMBER,), redrawn) for domain in run.domains}


def always(number: int) -> Numbers:
    """Return the same trial on each resample."""
    return np.full(RESAMPLES, number, dtype=np.intp)


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
    columns = _chosen_by(run, arm, protocol)
    return {domain: tuple(map(int, numbers)) for domain, numbers in columns.items()}


def _redrawn(run: Run, arm: Arm, protocol: str) -> dict[str, tuple[Numbers, ...]]:
    """Return what `chosen_numbers` would on each resample of the validation examples.

    Strength, and how much is tolerated, stay as on the whole sets. The choice of an upper bound is not
    repeated: it would be scored on the resample that it was made on.
    """
    return {} if PROTOCOLS[protocol].is_upper_bound else _chosen_by(run, arm, protocol, is_resampled=True)


def _chosen_by(
    run: Run, arm: Arm, protocol: str, *, is_resampled: bool = False
) -> dict[str, tuple[Numbers, ...]]:
    """Return the numbers that a protocol chooses by the run's selection metric, once or on each resample."""
    metric, candidates = run.selection_metric, run.candidates(arm)
    sign = 1.0 if METRICS[metric].higher_is_better else -1.0

    def scores_by(score: Callable[[int, str, str, str], ArrayLike]) -> Score:
        def of(domain: str, split: str) -> Array:
            scores = [np.asarray(score(each, domain, split, metric)) for each in candidates]
            return sign * np.stack(scores, axis=-1)

        return of

    resampled, strength = scores_by(run.resampled), [run.trials[each].strength or 0 for each in candidates]
    columns = choose_among(
        run,
        protocol,
        list(map(float, strength)),
        resampled if is_resampled else scores_by(run.score),
        resampled,
        partial(unlabelled_scores, run, candidates, is_resampled=is_resampled),
    )
    return {name: tuple(np.array(candidates)[each] for each in places) for name, places in columns.items()}


def choose_among(
    run: Run,
    protocol: str,
    strength: Sequence[float],
    score: Score,
    resampled: Score,
    by_texts: Callable[[Mapping[str, Scores]], Mapping[str, Scores]],
    pretrained: tuple[Array, Array] | None = None,
) -> dict[str, tuple[Positions, ...]]:
    """Return the positions of the candidates that a protocol chooses for each domain of a run.

    Args:
        run: whose domains they are.
        protocol: what chooses.
        strength: how strongly each candidate regularises; the first stands for doing nothing.
        score: what to choose by.
        resampled: scores on each resample, ``[RESAMPLES, candidates]``: what is tolerated comes from these.
        by_texts: takes the scores by domain, and returns what stands for them where labels are not read.
        pretrained: in-domain scores of the pretrained model, and on each resample, ``[..., 1]``, where the
            first candidate is another model.
    """
    rule = PROTOCOLS[protocol]
    by_labels = not rule.reads_texts or TASKS[run.experiment.task].unlabelled == "likelihood"
    sees_all = by_labels and not rule.in_domain_alone
    domains = run.domains_with(rule.split) if sees_all else [run.in_domain]
    scores = {domain: score(domain, rule.split) for domain in domains}
    drawn = resampled(run.in_domain, "validation")
    known, known_drawn = (None, drawn[:, :1]) if pretrained is None else pretrained
    with np.errstate(invalid="ignore"):  # infinite scores are a destroyed model's
        errors = [0.0, *map(standard_error, (drawn[:, 1:] - known_drawn).T)]
    unlabelled = by_texts(scores) if rule.reads_texts else {}
    evidence = Evidence(run.in_domain, scores, np.array(errors), np.array(strength), unlabelled, known)
    return rule.choose(evidence, run.out_of_domain)


class ChosenTrial(NamedTuple):
    """The one trial that a protocol chose, where, among the trials of which search, and for which domain."""

    run: Run
    arm: Arm
    trial: Trial
    protocol: str
    domain: str


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
    domain = domain or run.in_domain
    numbers = chosen_numbers(run, arm, protocol)[domain]
    if not numbers:
        raise UserError(
            f"expected a protocol that applies to {domain}, got {protocol}, "
            "which has nothing to choose by there; choose another"
        )
    return ChosenTrial(run, arm, run.trials[numbers[0]], protocol, domain)


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


class Leaders:
    """What each honest protocol of a run's experiment would choose of one search so far.

    A sweep shows it after a trial. Nothing comes from a test set, and no trial's examples are read twice.
    """

    def __init__(self) -> None:
        self._run: Run | None = None

    def __call__(self, directory: Path, method: str, seed: int) -> Iterator[tuple[str, str]]:
        """Yield each protocol and its choice.

        Raises:
            UserError: as `nvreg.report.reading.read_run`.
        """
        self._run = read_run(directory, self._run)
        return leaders_of(self._run, Arm(method, seed))


def leaders_of(run: Run, arm: Arm) -> Iterator[tuple[str, str]]:
    """Yield each honest protocol and what it would choose of one search of a run that has been read.

    Raises:
        UserError: if an example file of the in-domain validation set cannot be read.
    """
    for protocol in run.experiment.selection.protocols:
        if not PROTOCOLS[protocol].is_upper_bound:
            columns = chosen_numbers(run, arm, protocol)
            numbers = {number for domain in run.out_of_domain for number in columns[domain]}
            described = (_describe(run.trials[number]) for number in sorted(numbers))
            yield protocol, "; ".join(described) or "n/a"


def _describe(trial: Trial) -> str:
    if trial.number == PRETRAINED_NUMBER:
        return "the pretrained model"
    return f"{trial.number} ({setting_text(trial)})"


def setting_text(trial: Trial, with_method: bool = False) -> str:
    """Return a trial's setting as one short text, with its method's name or without."""
    if trial.number == PRETRAINED_NUMBER:
        return PRETRAINED
    method = METHODS[trial.method]
    setting = method.setting_type.from_dict(trial.settings)
    return method.named(setting) if with_method else str(setting)
