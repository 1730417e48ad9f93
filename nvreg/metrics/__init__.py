"""Metrics as functions of per-example statistics, so that nothing is ever scored twice.

Each example of a task's frame of scores has a row of statistics in every group that is asked for; every
metric of a group is a function of those rows and of how often each example counts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from nvreg.errors import UserError
from nvreg.metrics.classification import CLASSIFICATION, choice_statistics
from nvreg.metrics.likelihood import LIKELIHOOD
from nvreg.metrics.metric import Array, Metric
from nvreg.metrics.text import GENERATED, OVERLAP, TEXT, text_statistics, with_overlap

if TYPE_CHECKING:
    from pandas import DataFrame

__all__ = [
    "GENERATED",
    "METRICS",
    "METRICS_OF_TASK",
    "Array",
    "Metric",
    "check_metrics",
    "choice_statistics",
    "score",
    "signature",
    "text_statistics",
    "with_overlap",
]

METRICS: Mapping[str, Metric] = {metric.name: metric for metric in (*LIKELIHOOD, *TEXT, *CLASSIFICATION)}

_LIKELIHOOD, _TEXT, _CLASSIFICATION = (
    tuple(metric.name for metric in metrics) for metrics in (LIKELIHOOD, TEXT, CLASSIFICATION)
)

METRICS_OF_TASK: Mapping[str, tuple[str, ...]] = {
    "translation": _LIKELIHOOD + _TEXT,
    "summarisation": _LIKELIHOOD + _TEXT,
    "language-modelling": _LIKELIHOOD,
    "classification": ("nll", *_CLASSIFICATION),
    "multiple-choice": ("nll", "accuracy", "ece", "brier"),  # the number of an answer is no class
}
"""The metrics that each task supplies."""


def check_metrics(task: str, names: Sequence[str]) -> None:
    """Check that a task supplies the metrics of these names.

    Raises:
        UserError: if it does not supply one; it lists those that it does.
    """
    for name in names:
        if name not in METRICS_OF_TASK[task]:
            raise UserError(
                f"evaluation.metrics: expected some of {', '.join(METRICS_OF_TASK[task])} with task {task}, "
                f"got {name!r}"
            )


def score(frame: DataFrame, name: str) -> float:
    """Return the metric of that name over all examples of a task's frame of scores."""
    metric = METRICS[name]
    return float(metric.score(np.stack(frame[metric.group].to_list())))


def signature(name: str, task: str, likelihood: str) -> str:
    """Return a description of every choice that changes a metric of a task.

    Args:
        name: the metric's.
        task: the task's.
        likelihood: how the task scores likelihood.
    """
    described = METRICS[name].signature()
    if name == "overlap":
        return f"{described}|{signature(OVERLAP[task], task, likelihood)}"
    return f"{described}|{likelihood}" if METRICS[name].group == "likelihood" else described
