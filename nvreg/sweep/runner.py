"""Running a sweep: the pretrained model, then every setting, each kept as soon as it is measured."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import yaml

from nvreg.attention.settings import Settings
from nvreg.config import Experiment
from nvreg.files import write_text
from nvreg.models.convert import convert_
from nvreg.prior.artefact import Prior
from nvreg.sweep.manifest import check_directory, manifest_of
from nvreg.sweep.measure import measure
from nvreg.sweep.priors import prior_of
from nvreg.sweep.progress import Progress
from nvreg.sweep.store import Trial, TrialStore, exclusive, trial_key
from nvreg.sweep.workbench import Workbench, open_workbench
from nvreg.tasks.metrics import METRICS


class Outcome(NamedTuple):
    """How the trials of a sweep ended, those measured before included."""

    completed: int
    failed: int


def run_sweep(
    experiment: Experiment, *, fail_fast: bool = False, retry_failed: bool = False, quiet: bool = False
) -> Outcome:
    """Measure what an experiment asks for and its output directory does not hold yet.

    Args:
        experiment: the experiment.
        fail_fast: stop at the first trial that fails; otherwise its error is kept and the sweep goes on.
        retry_failed: measure again what failed before.
        quiet: show no progress.

    Raises:
        UserError: if anything the experiment names cannot be had, or the directory is another experiment's.
        Exception: what the trial of the pretrained model raises, without which nothing compares; with
            ``fail_fast`` what any trial raises.
    """
    output = Path(experiment.output)
    with Progress(quiet) as progress:
        progress.phase("loading model and data")
        workbench = open_workbench(experiment)
        check_directory(output, workbench)
        prior = prior_of(workbench, output / "prior.safetensors", progress)
        output.mkdir(parents=True, exist_ok=True)
        with exclusive(output):
            manifest = manifest_of(workbench, prior)
            _write(output, manifest, experiment, prior)
            convert_(workbench.model, prior)
            run = _Run(workbench, TrialStore(output), manifest["context"], progress)
            return run.measure(fail_fast, retry_failed)


def _write(output: Path, manifest: Mapping[str, Any], experiment: Experiment, prior: Prior) -> None:
    """Write everything but trials; the manifest first, which makes the directory this experiment's."""
    write_text(output / "manifest.json", json.dumps(manifest, indent=1) + "\n")
    write_text(output / "experiment.yaml", yaml.safe_dump(experiment.model_dump(), sort_keys=False))
    prior.save(output / "prior.safetensors")


class _Run:
    """The trials of one sweep in one context."""

    def __init__(self, workbench: Workbench, store: TrialStore, context: str, progress: Progress) -> None:
        self._workbench = workbench
        self._experiment = workbench.experiment
        self._store = store
        self._context = context
        self._progress = progress
        self._planned = {
            trial_key(context, self._experiment.sweep.method, settings): settings
            for settings in workbench.settings
        }

    def measure(self, fail_fast: bool, retry_failed: bool) -> Outcome:
        """Measure what is left and return how all planned trials ended."""
        kept = self._kept()
        left = [
            key for key in self._planned if key not in kept or (retry_failed and kept[key].status == "failed")
        ]
        self._progress.start(len(self._planned), len(left), sum(map(len, self._workbench.scored.values())))
        try:
            for key in left:
                trial = self._trial(key, fail_fast)
                self._store.append(trial)
                self._progress.finish_trial(self._describe(trial), f"best {self._describe(self._best())}")
        finally:
            statuses = [trial.status for trial in self._kept().values()]
            outcome = Outcome(statuses.count("completed"), statuses.count("failed"))
            self._progress.say(
                f"{outcome.completed} of {len(self._planned)} trials completed, {outcome.failed} failed, "
                f"in {self._experiment.output}"
            )
        return outcome

    def _kept(self) -> dict[str, Trial]:
        """Return the planned trials that have been measured."""
        kept = self._store.trials(self._context)
        return {key: kept[key] for key in self._planned if key in kept}

    def _trial(self, key: str, fail_fast: bool) -> Trial:
        settings, number, started = self._planned[key], self._number(key), time.monotonic()

        def keep(domain: str, split: str, frame: pd.DataFrame) -> None:
            self._store.save_examples(key, domain, split, frame)
            self._progress.step()

        measured, error = None, None
        try:
            measured = measure(self._workbench, settings, keep)
        except Exception as raised:
            if fail_fast or settings.is_identity:
                raise
            error = f"{type(raised).__name__}: {' '.join(str(raised).split())}"
        return Trial(
            key=key,
            context=self._context,
            number=number,
            method=self._experiment.sweep.method,
            settings=settings.to_dict(),
            status="completed" if measured else "failed",
            metrics=measured.metrics if measured else {},
            prior_weight=measured.prior_weight if measured else None,
            strength=measured.strength if measured else None,
            seconds=round(time.monotonic() - started, 3),
            error=error,
        )

    def _number(self, key: str) -> int:
        """Return the number a trial had, or the next: 0 for the pretrained model, which is measured first."""
        known = self._store.trials(self._context)
        return known[key].number if key in known else max((t.number + 1 for t in known.values()), default=0)

    def _best(self) -> Trial:
        """Return the best completed trial on in-domain validation, the first of equals."""
        completed = [trial for trial in self._kept().values() if trial.status == "completed"]
        sign = 1 if METRICS[self._experiment.selection.metric].higher_is_better else -1
        return max(completed, key=lambda trial: sign * self._validation(trial))

    def _validation(self, trial: Trial) -> float:
        """Return a completed trial's in-domain validation score by the selection metric."""
        domain, metric = self._experiment.data.in_domain.name, self._experiment.selection.metric
        return float(trial.metrics[domain]["validation"][metric])

    def _describe(self, trial: Trial) -> str:
        settings = str(Settings.from_dict(trial.settings)) if trial.number else "pretrained"
        metric = self._experiment.selection.metric
        return f"{trial.error or f'{metric} {self._validation(trial):.4g}'} ({settings})"
