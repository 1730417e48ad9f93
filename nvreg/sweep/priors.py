"""The prior of a sweep or of a file of text."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from torch import Tensor
from transformers import PreTrainedModel

from nvreg.config import Evaluation, Reading, Source
from nvreg.data import Examples, load_examples
from nvreg.errors import UserError
from nvreg.models.identity import identify
from nvreg.models.loading import load_model, load_tokenizer
from nvreg.prior.artefact import Prior
from nvreg.prior.estimate import estimate_prior
from nvreg.sweep.progress import Progress
from nvreg.sweep.store import digest
from nvreg.sweep.workbench import Workbench
from nvreg.tasks import Task, make_task


def prior_of(workbench: Workbench, kept: Path, progress: Progress) -> Prior:
    """Return the prior that an experiment asks for.

    Args:
        workbench: with an unconverted model.
        kept: where an earlier run saved its prior; one of the same model and text is not estimated again.
        progress: counts training examples.

    Raises:
        UserError: if the training text or the prior's file cannot be had, or the prior is of another model.
    """
    source, data = workbench.experiment.prior, workbench.experiment.data
    if source.path is not None:
        prior = Prior.load(source.path)
        prior.check(workbench.model)
        return prior
    if source.kind == "gaussian":
        return Prior.gaussian(workbench.model)
    assert data.in_domain.train is not None
    examples = load_examples(data.in_domain.train, data.columns, workbench.task.required)
    text = digest([examples.fingerprint, workbench.reading, source.max_tokens])
    with suppress(UserError):
        prior = Prior.load(kept)
        if prior.data == text and prior.model == identify(workbench.model):
            return prior
    return _estimate(workbench.model, workbench.task, examples, progress, text, source.max_tokens)


def prior_of_file(model_path: str, files: Path, column: str, target_column: str, progress: Progress) -> Prior:
    """Return the empirical prior of a sequence-to-sequence model over a file of sources and targets.

    Args:
        model_path: a directory, or a name on the hub.
        files: a file or glob, as in `nvreg.config.Source`.
        column: the file's column of sources.
        target_column: the file's column of targets.
        progress: counts examples.

    Raises:
        UserError: if the model or the text cannot be had.
    """
    model = load_model(model_path, "translation")
    reading = Reading(columns={"source": column, "target": target_column})
    task = make_task(
        "translation",
        load_tokenizer(model_path),
        model.config,
        data=reading,
        evaluation=Evaluation(metrics=["nll"]),
    )
    examples = load_examples(Source(files=str(files)), reading.columns, task.required)
    return _estimate(model, task, examples, progress, examples.fingerprint)


def _estimate(
    model: PreTrainedModel,
    task: Task[Any],
    examples: Examples,
    progress: Progress,
    fingerprint: str,
    max_tokens: int | None = None,
) -> Prior:
    progress.phase("estimating the prior", len(examples))

    def counted() -> Iterator[dict[str, Tensor]]:
        for batch in task.teacher_forced(task.encode(examples)):
            yield batch
            progress.step(len(batch["input_ids"]))

    return estimate_prior(model, counted(), max_tokens=max_tokens, data_fingerprint=fingerprint)
