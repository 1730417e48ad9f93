"""A model that is measured: loaded for a task, and regularised as a sweep's worker regularises it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from nvreg.attention.settings import Settings
from nvreg.checkpoint import is_converted_directory, read_conversion
from nvreg.data import Examples, load_examples
from nvreg.digests import fingerprint
from nvreg.errors import UserError
from nvreg.estimation.estimate import estimate_prior
from nvreg.evaluation.request import Regularisation, Request
from nvreg.evaluation.result import MeasuredModel
from nvreg.methods import METHODS
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
        """Bring the model to a setting, with the prior of a converted directory where it is one.

        Raises:
            UserError: if there is a setting without a prior, or a prior weight without text, or they do not
                fit the model.
        """
        path, setting = Path(self._request.model.path), wanted.setting
        own: Prior | None = None
        if is_converted_directory(path):
            own, saved = read_conversion(path)
            if setting.is_identity:
                setting = NVSetting.from_dict(saved.to_dict())
        training = self._training(wanted)
        if setting.is_calibrated and training is None:
            raise UserError(
                "expected --prior-data FILE, the text on which --prior-weight is solved for, got none"
            )
        if setting.is_identity and own is None:
            return
        prior = self._prior(wanted, own, training, progress)
        sample = random_batches(self.task, training) if training and setting.is_calibrated else []
        self._set(prior, sample, setting)

    def _training(self, wanted: Regularisation) -> Examples | None:
        if wanted.prior_data is None:
            return None
        request = self._request
        return load_examples(request.source(wanted.prior_data), request.data.columns, self.task.required)

    def _prior(
        self, wanted: Regularisation, own: Prior | None, training: Examples | None, progress: Progress
    ) -> Prior:
        """Return the prior that is asked for: of a file, of the directory, or of the text."""
        known = Prior.load(wanted.prior) if wanted.prior else own
        if known is not None:
            if wanted.space not in (None, known.space):
                raise UserError(
                    f"expected a prior of {wanted.space!r} space, got one of {known.space!r} space"
                )
            return known
        if training is None:
            raise UserError(
                "expected --prior FILE or --prior-data FILE with a setting of a model that is not converted, "
                "got neither"
            )
        space = wanted.space or "inputs"
        batches = list(self.task.teacher_forced(encode(self.task, training, "--prior-data")))
        return estimate_prior(
            self.model, progress.over(f"estimating the prior (space: {space})", batches), space=space
        )

    def _set(self, prior: Prior, sample: Sequence[dict[str, Tensor]], setting: NVSetting) -> None:
        method = METHODS[METHOD_OF_SPACE[prior.space]]()
        try:
            setting.check(layers_by_role(self.model, prior.space))
            method.attach_(self.model, prior, sample)
            resolved: Settings | None = method.set_(self.model, setting)
        except ValueError as error:
            raise UserError(str(error)) from error
        update = {
            "space": prior.space,
            "settings": setting.to_dict(),
            "resolved": None if resolved is None else resolved.to_dict(),
            "prior": prior.fingerprint,
        }
        self.described = self.described.model_copy(update=update)


def _task(request: Request, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> Task:
    task = make_task(request.task, tokenizer, model.config, data=request.data, evaluation=request.evaluation)
    task.check_model(model)
    return task
