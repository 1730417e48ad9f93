"""What the log of a training says: scores by epoch, the best one, and whether it is over."""

from __future__ import annotations

from collections.abc import Sequence
from math import isnan
from typing import Any

from nvreg.finetune.schema import EarlyStopping, Training
from nvreg.metrics import METRICS

_PREFIX = "eval_"


class History:
    """The log of `transformers.Trainer`.

    Attributes:
        log: entries in order, each with its step, epoch and the seconds so far.
        validations: those of them that have scores.
    """

    def __init__(self, log: Sequence[dict[str, Any]]) -> None:
        self.log = log
        self.validations = [entry for entry in log if scores_of(entry)]

    @property
    def seconds(self) -> float:
        """Seconds of training and validation."""
        return float(self.log[-1]["seconds"])

    def best(self, stopping: EarlyStopping | None) -> dict[str, Any]:
        """Return the entry of the first best validation, or of the last where nothing is to be best.

        A score that is no number is the worst.
        """
        if stopping is None:
            return self.validations[-1]
        sign = 1 if METRICS[stopping.metric].higher_is_better else -1

        def goodness(entry: dict[str, Any]) -> tuple[bool, float]:
            score = entry[_PREFIX + stopping.metric]
            return not isnan(score), sign * score

        return max(self.validations, key=goodness)

    def is_exhausted(self, stopping: EarlyStopping) -> bool:
        """Whether the best validation has too many after it."""
        since = len(self.validations) - 1 - self.validations.index(self.best(stopping))
        return since >= stopping.patience

    def is_over(self, training: Training) -> bool:
        """Whether nothing is left to train."""
        stopping = training.early_stopping
        stopped = bool(stopping and self.validations and self.is_exhausted(stopping))
        return stopped or self.log[-1]["epoch"] >= training.epochs


def scores_of(entry: dict[str, Any]) -> dict[str, float]:
    """Return the scores of a validation's entry by the names of the metrics."""
    return {key.removeprefix(_PREFIX): value for key, value in entry.items() if key.startswith(_PREFIX)}
