"""A model that is measured: loaded for a task, and regularised as a sweep's worker regularises it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from nvreg.checkpoint import converted_directory, read_conversion
from nvreg.data import Examples, load_examples
from nvreg.digests import fingerprint
from nvreg.errors import UserError
from nvreg.estimation.estimate import estimate_prior
from nvreg.evaluation.request import Regularisation, Request
from nvreg.evaluation.result import MeasuredModel
from nvreg.methods import METHODS
from nvreg.methods.method import Batch
from nvreg.methods.nv import NVSetting
from nvreg.models.registry import layers_by_role
from nvreg.models.site import Space
from nvreg.prior.artefact import Prior
from nvreg.progress import Progress
from nvreg.sweep.workbench import load_subject
from nvreg.tasks import Task, encode, make_task
from nvreg.tasks.sampling import random_batches

METHOD_OF_SPACE: dict[Space, str] = {"inputs": "nv", "heads": "nv-heads"}
"""The method that regularises in each space."""


class Measurable:
    """A model with its task, and what says which it is.

    Args:
        request: the model and the task.

    Attributes:
        model: in evaluation mode, as pretrained until it is regularised.
        task: encodes and scores.
        described: which model it is, and how it is regularised.

    Raises:
        UserError: if the model cannot be had or does not do what the request asks of it.
    """

    def __init__(self, request: Request) -> None:
        self.model: PreTrainedModel
        self.model, tokenizer = load_subject(request.model, request.task)
        self.task = _task(request, self.model, tokenizer)
        self._request = request
        self.described = MeasuredModel(
            path=request.model.path,
            model_type=self.model.config.model_type,
            fingerprint=fingerprint(self.model),
            dtype=str(self.model.dtype).removeprefix("torch."),
            space=None,
            settings={},
            resolved=None,
            prior=None,
        )

    def regularise_(self, wanted: Regularisation, progress: Progress) -> None:
        """Bring the model to a setting, as the function `regularise_` does.

        Raises:
            UserError: as there, or if the text cannot be read.
        """

        @cache
        def training() -> Examples:
            assert wanted.prior_data
            source = self._request.source(wanted.prior_data, "train")
            return load_examples(source, self._request.data.columns, self.task.required)

        def text(space: Space) -> Iterable[Batch]:
            batches = list(self.task.teacher_forced(encode(self.task, training(), "--prior-data")))
            return progress.over(f"estimating the prior (space: {space})", batches)

        source = self._request.model
        own = converted_directory(source.path, source.revision)
        done = regularise_(self.model, own, wanted, text, lambda: random_batches(self.task, training()))
        self.described = self.described.model_copy(update=done or {})


def regularise_(
    model: PreTrainedModel,
    converted: Path | None,
    wanted: Regularisation,
    text: Callable[[Space], Iterable[Batch]],
    sample: Callable[[], Sequence[Batch]],
) -> dict[str, Any] | None:
    """Bring a model to a setting, with the prior of a converted directory where it is one.

    Args:
        model: as pretrained.
        converted: the directory that it is from, where it is a converted one.
        wanted: the setting and the prior.
        text: reads ``wanted.prior_data``, for a prior in a space where there is none.
        sample: reads some of it, to solve for settings on.

    Returns:
        What is said of it: ``space``, ``settings``, ``resolved`` and ``prior`` of a `MeasuredModel`; None
        where nothing is asked for and the model is not converted, which leaves it as pretrained.

    Raises:
        UserError: if there is a setting without a prior, or a prior weight without text, or they do not fit
            the model.
    """
    setting = wanted.setting
    own: Prior | None = None
    if converted is not None:
        own, saved = read_conversion(converted)
        if setting.is_identity:
            setting = NVSetting.from_dict(saved.to_dict())
    if setting.is_calibrated and wanted.prior_data is None:
        raise UserError(
            "expected --prior-data FILE, the text on which --prior-weight is solved for, got none"
        )
    if setting.is_identity and own is None:
        return None
    prior = _known_prior(wanted, own)
    if prior is None:
        space = wanted.space or "inputs"
        prior = estimate_prior(model, text(space), space=space)
    method = METHODS[METHOD_OF_SPACE[prior.space]]()
    try:
        setting.check(layers_by_role(model, prior.space))
        method.attach_(model, prior, sample() if setting.is_calibrated else [])
        resolved = method.set_(model, setting)
    except ValueError as error:
        raise UserError(str(error)) from error
    return {
        "space": prior.space,
        "settings": setting.to_dict(),
        "resolved": None if resolved is None else resolved.to_dict(),
        "prior": prior.fingerprint,
    }


def _known_prior(wanted: Regularisation, own: Prior | None) -> Prior | None:
    """Return the prior of a file, or of the directory; None where it is to be estimated from the text."""
    known = Prior.load(wanted.prior) if wanted.prior else own
    if known is None and wanted.prior_data is None:
        raise UserError(
            "expected --prior FILE or --prior-data FILE with a setting of a model that is not converted, "
            "got neither"
        )
    if known is not None and wanted.space not in (None, known.space):
        raise UserError(f"expected a prior of {wanted.space!r} space, got one of {known.space!r} space")
    return known


def _task(request: Request, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> Task:
    task = make_task(request.task, tokenizer, model.config, data=request.data, evaluation=request.evaluation)
    task.check_model(model)
    return task
