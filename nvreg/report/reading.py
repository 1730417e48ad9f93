"""One run's directory, read only: it may belong to a sweep that is still running."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nvreg.config import Experiment, load_experiment
from nvreg.errors import UserError
from nvreg.report.protocols import PRETRAINED
from nvreg.sweep.store import Trial, read_trials


@dataclass(frozen=True)
class Run:
    """A directory that ``nvreg sweep`` writes.

    Attributes:
        directory: where the run is.
        experiment: the resolved experiment file.
        manifest: versions, fingerprints and metric signatures.
        trials: the completed trials by number, ascending, the pretrained model (0) first.
        failed: how many trials failed.
    """

    directory: Path
    experiment: Experiment
    manifest: Mapping[str, Any]
    trials: Mapping[int, Trial]
    failed: int

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

    @property
    def metrics(self) -> list[str]:
        """Names of the metrics, in the experiment's order."""
        return self.experiment.evaluation.metrics

    @property
    def selection_metric(self) -> str:
        """Name of the metric that settings are chosen by."""
        return self.experiment.selection.metric

    @property
    def planned(self) -> int:
        """How many settings the sweep tries in all, the pretrained model not counted."""
        return max(self.manifest.get("planned", 0), len(self.trials) - 1 + self.failed)

    def scores(self, metric: str, split: str) -> pd.DataFrame:
        """Return a metric's values, trials x domains that have the split."""
        domains = [domain for domain in self.domains if split in self.trials[PRETRAINED].metrics[domain]]
        rows = {
            number: [float(trial.metrics[domain][split][metric]) for domain in domains]
            for number, trial in self.trials.items()
        }
        return pd.DataFrame.from_dict(rows, orient="index", columns=domains)

    def statistics(self, number: int, domain: str, split: str, group: str) -> NDArray[np.float64]:
        """Return a trial's sufficient statistics of a group, shape ``(examples, k)``.

        Raises:
            UserError: if the file of examples cannot be read.
        """
        path = self.directory / "examples" / self.trials[number].key / f"{domain}.{split}.parquet"
        try:
            return np.stack(pd.read_parquet(path, columns=[group])[group].to_list()).astype(np.float64)
        except (OSError, ValueError) as error:
            raise UserError(
                f"expected the statistics {group!r} of trial {number} in {path}, received "
                f"{type(error).__name__}; remove the trial's line from trials.jsonl and sweep again"
            ) from error


def read_run(directory: Path) -> Run:
    """Read what a sweep has finished so far.

    Raises:
        UserError: if the directory is not a run's, or the pretrained model has not been measured yet.
    """
    for name in ("manifest.json", "experiment.yaml", "trials.jsonl"):
        if not (directory / name).is_file():
            raise UserError(
                f"expected a directory written by nvreg sweep, received {directory} without {name}; "
                "run the sweep first"
            )
    experiment = load_experiment(directory / "experiment.yaml")
    manifest = json.loads((directory / "manifest.json").read_text(encoding="utf-8"))
    latest = {
        trial.key: trial
        for trial in read_trials(directory / "trials.jsonl")
        if trial.context == manifest["context"]
    }
    completed = {trial.number: trial for trial in latest.values() if trial.status == "completed"}
    if PRETRAINED not in completed:
        raise UserError(
            f"expected the pretrained model among the completed trials of {directory}, received "
            f"{len(completed)} completed without it; run the sweep again to continue it"
        )
    trials = dict(sorted(completed.items()))
    return Run(directory, experiment, manifest, trials, failed=len(latest) - len(trials))
