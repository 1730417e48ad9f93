"""Measuring one setting: scores on every split, and how strongly it regularises."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import pandas as pd
import torch

from nvreg.attention.settings import Settings
from nvreg.diagnostics import recording
from nvreg.models.convert import set_settings_
from nvreg.sweep.store import Metrics
from nvreg.sweep.workbench import Workbench
from nvreg.tasks.metrics import score


class Measured(NamedTuple):
    """What a setting does: metrics by domain, split and name, and two means over in-domain validation."""

    metrics: Metrics
    prior_weight: float
    strength: float


def measure(
    workbench: Workbench, settings: Settings, keep: Callable[[str, str, pd.DataFrame], None]
) -> Measured:
    """Score a setting on everything an experiment names.

    Args:
        workbench: with a converted model.
        settings: what to set it to.
        keep: called with domain, split and the statistics of its examples after each split.
    """
    model = set_settings_(workbench.model, settings)
    names = workbench.experiment.evaluation.metrics
    metrics: dict[str, dict[str, dict[str, float]]] = {}
    for domain, splits in workbench.scored.items():
        for split, scored in splits.items():
            frame = workbench.task.score(model, scored.encoded)
            metrics.setdefault(domain, {})[split] = {name: score(frame, name) for name in names}
            keep(domain, split, frame)
    return Measured(metrics, *_strength(workbench, settings))


def _strength(workbench: Workbench, settings: Settings) -> tuple[float, float]:
    """Return the mean prior weight and discarded share, teacher-forced (docs/method.md, section 6)."""
    if settings.is_identity:
        return 0.0, 0.0
    model, task = workbench.model, workbench.task
    with torch.inference_mode(), recording(model) as record:
        for batch in task.teacher_forced(workbench.in_domain_validation.encoded):
            model(**{name: tensor.to(model.device) for name, tensor in batch.items()})
    return record.prior_weight, record.strength
