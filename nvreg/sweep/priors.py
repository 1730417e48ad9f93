"""What a sweep takes from training text: the prior, and the sample that prior weights are calibrated on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from torch import Tensor

from nvreg.errors import UserError
from nvreg.estimation.estimate import estimate_prior
from nvreg.experiment import Experiment
from nvreg.identity import identify, options_of
from nvreg.prior.artefact import Prior
from nvreg.progress import Progress
from nvreg.results import digest
from nvreg.sweep.workbench import Workbench
from nvreg.tasks import encode
from nvreg.tasks.sampling import random_batches


def prior_of(workbench: Workbench, kept: Path, progress: Progress) -> Prior:
    """Return the prior that an experiment asks for.

    Args:
        workbench: with an unconverted model.
        kept: where an earlier run saved its prior; one of the same model and text is not estimated again.
        progress: counts training examples.

    Raises:
        UserError: if the training text or the prior's file cannot be had, or the prior is of another model.
    """
    source = workbench.experiment.prior
    if source.path is not None:
        prior = Prior.load(source.path)
        prior.check(workbench.model)
        return prior
    if source.kind == "gaussian":
        return Prior.gaussian(workbench.model)
    examples = workbench.training
    config = options_of(workbench.model.config)
    text = digest([examples.fingerprint, workbench.experiment.data.options, source.max_tokens, config])
    with suppress(UserError):
        prior = Prior.load(kept)
        if prior.data == text and prior.model == identify(workbench.model):
            return prior
    progress.phase("estimating the prior", len(examples))
    encoded = encode(workbench.task, examples, f"{workbench.experiment.data.in_domain.name} train")

    def counted() -> Iterator[dict[str, Tensor]]:
        for batch in workbench.task.teacher_forced(encoded):
            yield batch
            progress.step(len(batch["input_ids"]))

    return estimate_prior(workbench.model, counted(), max_tokens=source.max_tokens, data_fingerprint=text)


def calibration_sample(workbench: Workbench) -> list[dict[str, Tensor]]:
    """Return a sample of the training text, teacher-forced; nothing where no setting of a sweep needs it.

    Raises:
        UserError: if the training text cannot be had.
    """
    if not calibrates(workbench.experiment):
        return []
    return random_batches(workbench.task, workbench.training)


def calibrates(experiment: Experiment) -> bool:
    """Return whether some setting of an experiment names a prior weight to solve for."""
    return any("prior_weight" in method.parameters for method in experiment.sweep.methods.values())
