"""What a sweep knows of its trials: those of its store that are of its context."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache

import numpy as np

from nvreg.experiment import Experiment
from nvreg.metrics import METRICS
from nvreg.parameters import Setting
from nvreg.results import PRETRAINED, PRETRAINED_NUMBER, Trial, trial_key
from nvreg.store import TrialStore
from nvreg.sweep.search import FirstExamples, Search, first_examples

_Line = tuple[str, int | None]


class Ledger:
    """The trials of one sweep.

    Args:
        experiment: the sweep's.
        store: where trials are kept.
        context: digest of everything but method and settings that can change a number.
        methods: fingerprint of each method, by name.
        retry_failed: failed trials count as not measured.
    """

    def __init__(
        self,
        experiment: Experiment,
        store: TrialStore,
        context: str,
        methods: Mapping[str, str],
        retry_failed: bool,
    ) -> None:
        self.store, self.context = store, context
        self._experiment, self._methods, self._retry_failed = experiment, methods, retry_failed
        self._metric = METRICS[experiment.selection.metric]
        self._current = self._read()
        self._lost = set(map(_line_of, store.lost(self._current.values())))
        self._numbers = {trial.key: trial.number for trial in store.trials(context)}  # stale ones keep theirs
        self._numbers.setdefault(self.pretrained_key, PRETRAINED_NUMBER)
        self._statistics: dict[str, FirstExamples] = {}
        self._pretrained_predictions = cache(self._read_predictions)

    @property
    def pretrained_key(self) -> str:
        """The key of the pretrained model's trial."""
        return trial_key(self.context, PRETRAINED, {})

    def lost(self, searches: Sequence[Search]) -> list[int]:
        """Return the numbers of the trials of some searches of which the examples are gone or damaged."""
        trials = (
            trial
            for line, trial in self._current.items()
            if line in self._lost
            and (trial.method == PRETRAINED or any(_is_of(search, trial) for search in searches))
        )
        return sorted({trial.number for trial in trials})

    def append(self, trial: Trial) -> None:
        """Add a trial (see `nvreg.store.TrialStore.append`)."""
        self.store.append(trial)
        self._lost.discard(line := _line_of(trial))
        self._current[line] = trial
        if trial.method == PRETRAINED:  # by which scores of earlier versions are judged
            self._current = self._read()

    def key(self, search: Search, setting: Setting) -> str:
        """Return the key of a setting's trial."""
        return trial_key(self.context, self._methods[search.method], setting.to_dict())

    def fingerprint(self, method: str | None) -> str | None:
        """Return what decides what a method does; None for the pretrained model."""
        return self._methods[method] if method else None

    def number(self, key: str) -> int:
        """Return the number of a trial: the one it had, or the next."""
        return self._numbers.setdefault(key, max(self._numbers.values()) + 1)

    def claim(self, key: str, seed: int) -> Trial | None:
        """Return the trial that need not be measured again, as that of ``seed`` whichever seed drew it first.

        A line for the seed is added to the store where there is none yet. What another seed stopped did not
        lose this seed's race.
        """
        trials = [trial for trial in self._final() if trial.key == key]
        for trial in trials:
            if trial.seed == seed:
                return trial
        trials = [trial for trial in trials if trial.status != "stopped"]
        if not trials:
            return None
        copy = replace(trials[0], seed=seed)
        self.append(copy)
        return copy

    def trials_of(self, search: Search) -> list[Trial]:
        """Return the trials of a search that need not be measured again, in the order of their numbers."""
        trials = [trial for trial in self._final() if _is_of(search, trial)]
        return sorted(trials, key=lambda trial: trial.number)

    def to_retry(self, search: Search) -> list[Setting]:
        """Return the settings of a search that failed or were lost, and are to be measured again."""
        return [
            search.setting_type.from_dict(trial.settings)
            for trial in self._current.values()
            if (trial.method, trial.seed) == (search.method, search.seed)
            and ((self._retry_failed and trial.status == "failed") or _line_of(trial) in self._lost)
        ]

    def pretrained(self) -> Trial | None:
        """Return the trial of the pretrained model, once there is one."""
        return next((trial for trial in self._final() if trial.key == self.pretrained_key), None)

    def scores(self, trial: Trial) -> Sequence[float] | None:
        """Return what a trial scores on each validation set, the greater the better; None unless completed.

        What was stopped has scores of the first examples alone.
        """
        if trial.status != "completed":
            return None
        splits = [by_split["validation"] for by_split in trial.metrics.values() if "validation" in by_split]
        return [self._sign * float(metrics[self._metric.name]) for metrics in splits]

    def best(self, search: Search | None = None) -> Trial:
        """Return the best completed trial on in-domain validation, of a search, the first of equals."""
        trials = self.trials_of(search) if search else list(self._final())
        pretrained = self.pretrained()
        assert pretrained is not None
        completed = [pretrained, *(trial for trial in trials if trial.status == "completed")]
        return max(completed, key=lambda trial: self._sign * self.validation_score(trial))

    def validation_score(self, trial: Trial) -> float:
        """Return a completed trial's in-domain validation score by the selection metric."""
        return float(trial.metrics[self._experiment.data.in_domain.name]["validation"][self._metric.name])

    def incumbent(self, search: Search) -> FirstExamples:
        """Return what a setting of a search races against: nothing where the experiment has no racing."""
        racing = self._experiment.sweep.racing
        if racing is None:
            return {}
        best = self.best(search)
        if best.key not in self._statistics:
            self._statistics = {best.key: self._read_validation(best, racing.after)}
        return self._statistics[best.key]

    def pretrained_predictions(self) -> Mapping[tuple[str, str], Sequence[str]]:
        """Return the pretrained model's predictions by domain and split, where a metric needs them."""
        return self._pretrained_predictions() if "overlap" in self._experiment.evaluation.metrics else {}

    def _read_predictions(self) -> Mapping[tuple[str, str], Sequence[str]]:
        trial = self.pretrained()
        assert trial is not None
        return {
            (domain, split): self.store.load_examples(trial, domain, split)["prediction"].to_list()
            for domain, splits in trial.metrics.items()
            for split in splits
        }

    def _read_validation(self, trial: Trial, count: int) -> FirstExamples:
        data, temperatures = self._experiment.data, self._experiment.evaluation.temperatures
        others = [domain.name for domain in data.out_of_domain if domain.validation]
        frames = {
            domain: self.store.load_examples(trial, domain, "validation").head(count)
            for domain in (data.in_domain.name, *others)
        }
        rows = {domain: first_examples(frame, self._metric, temperatures) for domain, frame in frames.items()}
        return {domain: each for domain, each in rows.items() if not np.isnan(each[0]).all()}  # has labels

    def _final(self) -> Iterator[Trial]:
        """Yield the trials that are not to be measured again."""
        for line, trial in self._current.items():
            unraced = trial.status == "stopped" and self._experiment.sweep.racing is None
            failed = trial.status == "failed" and (self._retry_failed or trial.method == PRETRAINED)
            if not unraced and not failed and line not in self._lost:
                yield trial

    def _read(self) -> dict[_Line, Trial]:
        """Return the latest trials, which the store puts together from all of its lines every time."""
        return {_line_of(trial): trial for trial in self.store.trials(self.context, self._methods)}

    @property
    def _sign(self) -> int:
        return 1 if self._metric.higher_is_better else -1


def _is_of(search: Search, trial: Trial) -> bool:
    return (trial.method, trial.seed) == (search.method, search.seed) and search.covers(
        search.setting_type.from_dict(trial.settings)
    )


def _line_of(trial: Trial) -> _Line:
    """Return what tells a trial from others of a context: of one key, each seed has a line."""
    return trial.key, trial.seed
