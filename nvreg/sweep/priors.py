"""The prior of a sweep or of a file of text."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from torch import Tensor

from nvreg.data import load_examples
from nvreg.errors import UserError
from nvreg.models.identity import identify
from nvreg.models.loading import load_model, load_tokenizer
from nvreg.prior.artefact import Prior
from nvreg.prior.estimate import estimate_prior
from nvreg.sweep.progress import Progress
from nvreg.sweep.store import digest
from nvreg.sweep.workbench import Workbench
from nvreg.tasks.files import batches_of_file


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
    progress.phase("estimating the prior", len(examples))

    def counted() -> Iterator[dict[str, Tensor]]:
        for batch in workbench.task.teacher_forced(workbench.task.encode(examples)):
            yield batch
            progress.step(len(batch["input_ids"]))

    return estimate_prior(workbench.model, counted(), max_tokens=source.max_tokens, data_fingerprint=text)


def prior_of_file(
    model_path: str, files: Path, column: str, target_column: str | None, progress: Progress
) -> Prior:
    """Return the empirical prior of a model over a file of text.

    Args:
        model_path: a directory, or a name on the hub.
        files: a file or glob, as in `nvreg.config.Source`.
        column: the file's column of texts, or of sources.
        target_column: its column of targets, for an encoder-decoder model alone.
        progress: counts batches.

    Raises:
        UserError: if the model or the text cannot be had.
    """
    model = load_model(model_path)
    batches = batches_of_file(model, load_tokenizer(model_path), files, column, target_column)
    progress.phase("estimating the prior", len(batches))

    def counted() -> Iterator[dict[str, Tensor]]:
        for batch in batches:
            yield batch
            progress.step()

    return estimate_prior(model, counted())
