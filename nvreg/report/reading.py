"""One run's directory, read only: it may belong to a sweep that is still running."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import product
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar

import numpy as np
import pyarrow
from numpy.typing import NDArray
from pandas import DataFrame
from pyarrow.parquet import ParquetFile

from nvreg.errors import UserError, is_of_memory
from nvreg.experiment import Experiment, load_experiment
from nvreg.methods import METHODS
from nvreg.metrics import METRICS, padded
from nvreg.metrics.resampling import Array, resample_counts
from nvreg.metrics.temperature import ALTERNATIVES, columns_needed, statistics_at, temperatures_of
from nvreg.results import (
    PRETRAINED,
    PRETRAINED_NUMBER,
    RunFiles,
    Trial,
    check_examples,
    check_sealed,
    latest_trials,
    read_manifest,
    read_trials,
)
from nvreg.tasks import TASKS

T = TypeVar("T")


class Arm(NamedTuple):
    """The search of one method with one seed, among whose trials protocols choose."""

    method: str
    seed: int | None


@dataclass(frozen=True, eq=False)
class Run:
    """A directory that ``nvreg sweep`` writes.

    Attributes:
        directory: where the run is.
        experiment: the resolved experiment file.
        manifest: versions, fingerprints and metric signatures.
        trials: the completed trials by number, ascending, the pretrained model (0) first.
        sweeps: each arm's lines of the trials' file, finished however, the latest of each setting; the
            pretrained model, a candidate of all, is in none.
    """

    directory: Path
    experiment: Experiment
    manifest: Mapping[str, Any]
    trials: Mapping[int, Trial]
    sweeps: Mapping[Arm, Sequence[Trial]]

    @property
    def in_domain(self) -> str:
        """Name of the domain the model was tuned on."""
        return self.experiment.data.in_domain.name

    @property
    def out_of_domain(self) -> list[str]:
        """Names of the other domains."""
        return [domain.name for domain in self.experiment.data.out_of_domain]

    @property
    def domains(self) -> list[str]:
        """Names of all domains, in-domain first."""
        return [self.in_domain, *self.out_of_domain]

    def domains_with(self, split: Literal["validation", "test"]) -> list[str]:
        """Return the names of the domains with a validation or test set that has scores, in-domain first.

        Examples without labels have none.
        """
        others = [domain.name for domain in self.experiment.data.out_of_domain if getattr(domain, split)]
        scores = {name: self.score(PRETRAINED_NUMBER, name, split, self.selection_metric) for name in others}
        return [self.in_domain, *(name for name, score in scores.items() if not np.isnan(score))]

    @property
    def metrics(self) -> list[str]:
        """Names of the metrics, in the experiment's order."""
        return self.experiment.evaluation.metrics

    @property
    def selection_metric(self) -> str:
        """Name of the metric that settings are chosen by."""
        return self.experiment.selection.metric

    @property
    def methods(self) -> list[str]:
        """Names of the methods that the experiment tries, begun or not, and of any tried before."""
        return list(dict.fromkeys(arm.method for arm in self.sweeps))

    def cannot_change(self, metric: str) -> set[str]:
        """Return the names of the methods tried no setting of which can change a metric."""
        task, evaluation = TASKS[self.experiment.task], self.experiment.evaluation
        return {name for name in self.methods if metric in METHODS[name].unchanged(task, evaluation)}

    @property
    def planned(self) -> int:
        """How many settings the sweep tries in all, the pretrained model not counted."""
        return max(self.manifest.get("planned", 0), sum(map(len, self.sweeps.values())))

    def count(self, status: str) -> int:
        """Return how many settings ended so."""
        return sum(trial.status == status for trials in self.sweeps.values() for trial in trials)

    def label(self, arm: Arm) -> str:
        """Return the name of an arm: its method's and, where the run has several, its seed's."""
        return (
            f"{arm.method}, seed {arm.seed}" if len({each.seed for each in self.sweeps}) > 1 else arm.method
        )

    def is_measured(self, arm: Arm) -> bool:
        """Return whether some setting of an arm is measured, be it on the examples of a race alone."""
        return any(trial.status in ("completed", "stopped") for trial in self.sweeps[arm])

    def candidates(self, arm: Arm) -> list[int]:
        """Return the numbers of an arm's completed trials, the pretrained model's first."""
        numbers = {trial.number for trial in self.sweeps[arm] if trial.status == "completed"}
        return [PRETRAINED_NUMBER, *sorted(numbers)]

    @cached_property
    def temperatures(self) -> tuple[float, ...]:
        """The output temperatures that statistics can be had at, ascending; 1 alone where none were kept.

        Raises:
            UserError: if the pretrained model's file of examples cannot be read.
        """
        table = self._read(PRETRAINED_NUMBER, self.in_domain, "validation")
        return temperatures_of(table.column_names, self.experiment.evaluation.temperatures)

    def score(self, number: int, domain: str, split: str, metric: str, temperature: float = 1.0) -> float:
        """Return a completed trial's value of a metric, at one of `temperatures`.

        Raises:
            UserError: if the trial has no such score, or the file of examples cannot be read, which is done
                at other temperatures than 1.
        """
        if temperature == 1:
            try:
                return float(self.trials[number].metrics[domain][split][metric])
            except KeyError as error:
                raise UserError(
                    f"{RunFiles(self.directory).trials}, trial {number}, metrics.{domain}.{split}.{metric}: "
                    "expected a score, as experiment.yaml names it, got none; sweep again"
                ) from error
        rows = self.statistics(number, domain, split, METRICS[metric].group, temperature)
        return float(METRICS[metric].score(rows))

    def statistics(self, number: int, domain: str, split: str, group: str, temperature: float = 1.0) -> Array:
        """Return a completed trial's sufficient statistics of a group, shape ``(examples, k)``.

        Args:
            number: the trial's.
            domain: which.
            split: which.
            group: a group of statistics (see `nvreg.metrics`).
            temperature: what logits are divided by, one of `temperatures`; at 1 the rows are as stored.

        Raises:
            UserError: if the file of examples cannot be read.
        """
        place = (number, domain, split, group, temperature)
        if place not in self._statistics:
            columns = self._columns(number, domain, split, group, temperature == 1)
            kept = self.experiment.evaluation.temperatures
            self._statistics[place] = statistics_at(columns, group, temperature, kept)
        return self._statistics[place]

    def likelihoods(self, number: int, domain: str, split: str) -> tuple[Array, Array]:
        """Return a completed trial's nats at each of `temperatures`, and of how many tokens or labels.

        Returns:
            Shapes ``(examples, temperatures)`` and ``(examples,)``. Neither is kept in memory.

        Raises:
            UserError: if the file of examples cannot be read.
        """
        columns = self._columns(number, domain, split, "likelihood", len(self.temperatures) == 1)
        kept = self.experiment.evaluation.temperatures
        rows = [statistics_at(columns, "likelihood", each, kept) for each in self.temperatures]
        return np.stack([each[:, 0] for each in rows], axis=-1), rows[0][:, 1]

    def resampled(
        self,
        number: int,
        domain: str,
        split: str,
        metric: str,
        which: NDArray[np.bool_] | None = None,
        temperature: float = 1.0,
    ) -> Array:
        """Return a completed trial's value of a metric on each resample, or on those that ``which`` marks.

        Raises:
            UserError: if the file of examples cannot be read.
        """

        def score(which: NDArray[np.bool_] | slice = slice(None)) -> Array:
            rows = self.statistics(number, domain, split, METRICS[metric].group, temperature)
            return METRICS[metric].score(rows, resample_counts(f"{domain}.{split}", len(rows))[which])

        if which is not None:
            return score(which)
        return self.once(number, ("resampled", domain, split, metric, temperature), score)

    def log_probabilities(self, number: int, domain: str, split: str) -> Array:
        """Return the log-probabilities of all classes, [examples, classes], and read nothing else.

        Raises:
            UserError: if the file of examples cannot be read, or has them not.
        """
        return _rows(self._read(number, domain, split, _alternatives_alone).column(ALTERNATIVES))

    def examples(self, number: int, domain: str, split: str) -> DataFrame:
        """Return all that a completed trial kept of each example.

        Raises:
            UserError: if the file of examples cannot be read.
        """
        return self._read(number, domain, split).to_pandas()

    def _columns(
        self, number: int, domain: str, split: str, group: str, is_plain: bool
    ) -> Mapping[str, Array]:
        """Return what a group's statistics are made of, without a temperature or with any."""
        place = (number, domain, split, group, is_plain)
        if place not in self._recent:
            table = self._read(number, domain, split, partial(columns_needed, group, is_plain))
            self._recent.clear()  # all temperatures are asked for in turn
            self._recent[place] = {name: _rows(table.column(name)) for name in table.column_names}
        return self._recent[place]

    def _read(
        self,
        number: int,
        domain: str,
        split: str,
        choose: Callable[[list[str]], list[str]] = lambda names: names,
    ) -> pyarrow.Table:
        """Return the columns that are chosen among those that a trial keeps of its examples."""
        path = self._path(number, domain, split)
        try:
            # A tenth of the time of pandas.read_parquet; a relative path with a colon would be an address.
            with ParquetFile(path.absolute()) as file:
                table = file.read(choose(file.schema_arrow.names))
                _check_table(table, self.manifest["data"].get(domain, {}).get(split, {}).get("examples"))
                return table
        except (OSError, ValueError, KeyError, pyarrow.ArrowException) as error:
            if is_of_memory(error):
                raise
            wanted = f" with {error.args[0]!r}" if isinstance(error, KeyError) else ""
            reason = "" if isinstance(error, KeyError) else f" ({' '.join(str(error).split())})"
            got = f"{type(error).__name__}{reason}"
            raise UserError(
                f"expected the examples of trial {number} in {path}{wanted}, got {got}; remove "
                "the trial's line from trials.jsonl and sweep again"
            ) from error

    def _path(self, number: int, domain: str, split: str) -> Path:
        """Return the file of a trial's examples, which is checked once."""
        files, trial = RunFiles(self.directory), self.trials[number]
        return self.once(
            number, ("checked", domain, split), lambda: check_examples(files, trial, domain, split)
        )

    def once(self, number: int, what: tuple[Hashable, ...], compute: Callable[[], T]) -> T:
        """Return something of a completed trial that is small, and is computed once.

        Args:
            number: the trial's.
            what: which of all that is computed of it.
            compute: computes it.
        """
        of_trial = self._known.setdefault(number, {})
        if what not in of_trial:
            of_trial[what] = compute()
        found: T = of_trial[what]
        return found

    def recall(self, earlier: Run) -> None:
        """Take what was computed `once` when the run was read before, of the trials that are the same."""
        if earlier.manifest.get("context") == self.manifest.get("context"):
            same = (number for number, trial in self.trials.items() if earlier.trials.get(number) == trial)
            self._known.update({number: earlier._known.get(number, {}) for number in same})

    @cached_property
    def _known(self) -> dict[int, dict[tuple[Hashable, ...], Any]]:
        return {}

    @cached_property
    def _statistics(self) -> dict[tuple[int, str, str, str, float], Array]:
        return {}

    @cached_property
    def _recent(self) -> dict[tuple[int, str, str, str, bool], Mapping[str, Array]]:
        return {}


def _check_table(table: pyarrow.Table, examples: int | None) -> None:
    """Check that columns are what a trial keeps of its examples: numbers, texts and lists of numbers.

    Raises:
        ValueError: if they are not, or not of as many examples as the manifest says.
    """
    if examples is not None and len(table) != examples:
        raise ValueError(f"expected {examples} examples, got {len(table)}")
    types = pyarrow.types
    for field in table.schema:
        kind = field.type.value_type if types.is_list(field.type) else field.type
        is_number = types.is_floating(kind) or types.is_integer(kind) or types.is_null(kind)
        if field.name not in ("id", "prediction") and not (is_number and types.is_list(field.type)):
            raise ValueError(f"expected lists of numbers as {field.name}, got {field.type}")


def _alternatives_alone(names: list[str]) -> list[str]:
    if ALTERNATIVES not in names:
        raise KeyError(ALTERNATIVES)
    return [ALTERNATIVES]


def _rows(column: pyarrow.ChunkedArray) -> Array:
    """Return a column of lists as rows, NaN after the ends of shorter ones."""
    lists = column.combine_chunks()
    values = lists.flatten().to_numpy(zero_copy_only=False).astype(np.float64)  # NaN is written as nothing
    return padded(values, lists.value_lengths().to_numpy())


def read_run(directory: Path, earlier: Run | None = None) -> Run:
    """Read what a sweep has finished so far.

    Args:
        directory: what ``nvreg sweep`` writes.
        earlier: the same as it was read before; what was computed of its trials is kept.

    Raises:
        UserError: if the directory is not a run's, or the pretrained model has not been measured yet.
    """
    files = RunFiles(directory)
    needed = (files.manifest, files.experiment, files.trials)
    again = "again, which mends what is lost" if any(path.is_file() for path in needed) else "first"
    for path in needed:
        if not path.is_file():
            raise UserError(
                f"expected a directory written by nvreg sweep, got {directory} without {path.name}; "
                f"run the sweep {again}"
            )
    experiment, manifest = load_experiment(files.experiment, is_record=True), read_manifest(files.manifest)
    check_sealed(files, manifest)
    latest = latest_trials(read_trials(files.trials), manifest["context"], manifest.get("methods"))
    for trial in latest:
        _check_trial(trial, files.trials)
    completed = {trial.number: trial for trial in latest if trial.status == "completed"}
    if PRETRAINED_NUMBER not in completed:
        raise UserError(
            f"expected the pretrained model among the completed trials of {directory}, got "
            f"{len(completed)} completed without it; run the sweep again to continue it"
        )
    run = Run(directory, experiment, manifest, dict(sorted(completed.items())), _sweeps(experiment, latest))
    if earlier is not None:
        run.recall(earlier)
    return run


def _check_trial(trial: Trial, path: Path) -> None:
    """Check that a trial's method is known, and its setting one of the method's.

    Raises:
        UserError: if it is not; the message names the key.
    """
    where, hint = f"{path}, trial {trial.number}", "put the file back, or sweep again"
    if trial.method != PRETRAINED:
        try:
            setting_type = METHODS[METHODS.check(trial.method)].setting_type
        except ValueError as error:
            raise UserError(f"{where}, method: {error}; {hint}") from None
        try:
            setting_type.from_dict(trial.settings)
        except ValueError as error:
            raise UserError(f"{where}, settings.{error}; {hint}") from None


def _sweeps(experiment: Experiment, trials: Iterable[Trial]) -> dict[Arm, list[Trial]]:
    """Return the trials of each arm by number: the arms of the experiment first, begun or not."""
    sweep = experiment.sweep
    arms: dict[Arm, list[Trial]] = {Arm(*arm): [] for arm in product(sweep.methods, sweep.seeds)}
    for trial in sorted(trials, key=lambda trial: trial.number):
        if trial.number != PRETRAINED_NUMBER:
            arms.setdefault(Arm(trial.method, trial.seed), []).append(trial)
    return arms
