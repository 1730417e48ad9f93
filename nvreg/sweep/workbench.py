"""What a sweep works on, loaded once: the model, the task, the encoded data, and what training text gives."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from nvreg.checkpoint import SETTINGS_FILE
from nvreg.config import InDomain, ModelSource, OutOfDomain, Source
from nvreg.data import NO_LABEL, Examples, load_examples
from nvreg.digests import body_digest, fingerprint, options_of
from nvreg.errors import UserError
from nvreg.estimation.estimate import estimate_prior
from nvreg.experiment import Experiment
from nvreg.methods import Method
from nvreg.models.loading import load_model, load_tokenizer
from nvreg.models.registry import layers_by_role, site_modules
from nvreg.models.site import Space
from nvreg.prior.artefact import Prior
from nvreg.progress import Progress
from nvreg.results import RunFiles, digest
from nvreg.samplers import Layers
from nvreg.sweep.plan import Plan, make_plan
from nvreg.tasks import TASKS, Encoded, Task, encode, make_task
from nvreg.tasks.base import part
from nvreg.tasks.sampling import random_batches


@dataclass(frozen=True)
class ScoredSplit:
    """A split that every trial is scored on.

    Attributes:
        examples: what the data has.
        encoded: the same as tokens.
        parts: ``encoded`` in the order of scoring: with racing, the examples of a validation set that decide
            the race, and the rest.
    """

    examples: Examples
    encoded: Encoded
    parts: tuple[Encoded, ...]


@dataclass(frozen=True)
class Workbench:
    """An experiment with everything it names loaded.

    Attributes:
        experiment: what was asked for.
        model: not converted yet.
        fingerprint: the model's.
        layers: number of layers by role of the model.
        plan: what is tried.
        task: encodes and scores.
        scored: by domain, in-domain first, then by split.
    """

    experiment: Experiment
    model: PreTrainedModel
    fingerprint: str
    layers: Layers
    plan: Plan
    task: Task
    scored: Mapping[str, Mapping[str, ScoredSplit]]

    @cached_property
    def training(self) -> Examples:
        """The in-domain training text, which is never scored.

        Raises:
            UserError: if it cannot be had.
        """
        source = self.experiment.data.in_domain.train
        if source is None:
            raise UserError("expected data.in_domain.train, got none")
        return load_examples(source, self.experiment.data.columns, self.task.required)

    @property
    def is_regularised(self) -> bool:
        """Whether the model comes from a converted checkpoint, whose config says so if it is of today."""
        directory = Path(self.experiment.model.path)
        return hasattr(self.model.config, "nvreg") or (directory / SETTINGS_FILE).is_file()

    @property
    def notes(self) -> list[str]:
        """Lines that say what was decided by itself, and the user may decide otherwise."""
        label, path = self.task.label_column, self.experiment.model.path
        converted = [f"{path} is regularised already; its pretrained weights are what is measured"]
        return [
            *self.task.notes,
            *(converted if self.is_regularised else ()),
            *(
                f"{domain} {split} {self._without(domain, split)}: metrics that need labels are n/a there"
                for domain, splits in self.scored.items()
                for split, scored in splits.items()
                if label is not None and label not in scored.examples.records[0]
            ),
        ]

    def _without(self, domain: str, split: str) -> str:
        """Say why a split has no labels."""
        if self.experiment.reads_labels(domain, split):
            return f"has no labels in a column {self.task.label_column!r}"
        return "is read without labels, as no protocol chooses by them"

    @property
    def in_domain_validation(self) -> ScoredSplit:
        """What strength is measured on, and most selections."""
        return self.scored[self.experiment.data.in_domain.name]["validation"]


def load_subject(source: ModelSource, task: str) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load the model of a file with the head that a task needs, and its tokenizer.

    Raises:
        UserError: if they cannot be had.
    """
    hub: dict[str, Any] = {"revision": source.revision, "trust_remote_code": source.trust_remote_code}
    head = TASKS[task].auto_class
    placed: dict[str, Any] = {"device": source.device, "device_map": source.device_map}
    model = load_model(source.path, head, dtype=source.dtype, **placed, **hub)
    return model, load_tokenizer(source.path, **hub)


def open_workbench(experiment: Experiment) -> Workbench:
    """Load and check everything an experiment names, except its training text.

    Raises:
        UserError: if the model or data cannot be had, or the space does not fit the model.
    """
    model, tokenizer = load_subject(experiment.model, experiment.task)
    layers, data, racing = layers_by_role(model), experiment.data, experiment.sweep.racing
    validated = [domain for domain in data.out_of_domain if domain.validation]
    plan = make_plan(experiment.sweep, layers, objectives=1 + len(validated))
    for space in plan.spaces:
        site_modules(model, space)  # or refused
    for method in plan.methods.values():
        method.check(model)
    task = make_task(experiment.task, tokenizer, model.config, data=data, evaluation=experiment.evaluation)
    task.check_model(model)

    def load(source: Source, domain: str, split: str) -> ScoredSplit:
        label = task.label_column
        is_optional = domain != data.in_domain.name and experiment.goes_without_labels
        reads_labels = experiment.reads_labels(domain, split)
        columns = [column for column in task.required if column != label or reads_labels]
        absent = {NO_LABEL} - (data.labels or {}).keys()
        examples = load_examples(source, data.columns, columns, label if is_optional else None, absent)
        encoded = encode(task, examples, f"{domain} {split}")
        if racing is None or split != "validation" or racing.after >= len(examples):
            return ScoredSplit(examples, encoded, (encoded,))
        halves = slice(racing.after), slice(racing.after, None)
        return ScoredSplit(examples, encoded, tuple(part(encoded, half) for half in halves))

    domains: list[InDomain | OutOfDomain] = [data.in_domain, *data.out_of_domain]
    scored = {
        domain.name: {
            split: load(text, domain.name, split)
            for split, text in (("validation", domain.validation), ("test", domain.test))
            if text is not None
        }
        for domain in domains
    }
    return Workbench(experiment, model, fingerprint(model), layers, plan, task, scored)


Priors = Mapping[Space, Prior]
"""The priors of an experiment, by the space of the methods that they are for."""


def prior_for(method: Method, priors: Priors) -> Prior | None:
    """Return the prior that a method is attached with: that of its space, None where it has none."""
    return None if method.space is None else priors[method.space]


def priors_of(workbench: Workbench, kept: RunFiles, progress: Progress) -> Priors:
    """Return the prior that an experiment asks for, in every space that a method of it has.

    Arguments and errors are those of `prior_of`; ``kept`` are the files of an earlier run.
    """
    spaces = workbench.plan.spaces
    return {
        space: prior_of(workbench, space, kept.prior_of(space), progress, kept.fingerprint_of_prior(space))
        for space in spaces
    }


def prior_of(
    workbench: Workbench, space: Space, kept: Path, progress: Progress, fingerprint: str | None = None
) -> Prior:
    """Return the prior that an experiment asks for, in one space.

    Args:
        workbench: with an unconverted model.
        space: which.
        kept: where an earlier run saved its prior; one of the same model and text is not estimated again.
        progress: counts training examples.
        fingerprint: what the earlier run says of its prior, if there is one.

    Raises:
        UserError: if the training text or the prior's file cannot be had, or the prior is of another model
            or another space.
    """
    source = workbench.experiment.prior
    if source.path is not None:
        prior = Prior.load(source.path)
        if prior.space != space:
            methods = [name for name, method in workbench.plan.methods.items() if method.space == space]
            raise UserError(
                f"prior.path: expected a prior of {space!r} space, which {', '.join(methods)} needs, got one "
                f"of {prior.space!r} space; write kind: empirical, for which each space gets its own"
            )
        prior.check(workbench.model)
        return prior
    if source.kind == "gaussian" and space == "heads":
        raise UserError(
            "prior.kind: expected empirical for methods in head space, got gaussian, which input space has"
        )
    if source.kind == "gaussian":
        return Prior.gaussian(workbench.model)
    examples = workbench.training
    config, prefix = options_of(workbench.model.config), workbench.experiment.evaluation.prefix
    read = [examples.fingerprint, workbench.experiment.data.options, source.max_tokens, config]
    text = digest(read if prefix == "none" else [*read, prefix])
    if kept.exists():
        try:
            prior = Prior.load(kept, fingerprint)
        except UserError:
            progress.say(f"{kept} is not as it was written; it is made again")
        else:
            if prior.data == text and prior.model == body_digest(workbench.model):
                return prior
    progress.phase(f"estimating the prior (space: {space})", len(examples))
    encoded = encode(workbench.task, examples, f"{workbench.experiment.data.in_domain.name} train")

    def counted() -> Iterator[dict[str, Tensor]]:
        for batch in workbench.task.teacher_forced(encoded):
            yield batch
            progress.step(len(batch["input_ids"]))

    return estimate_prior(
        workbench.model, counted(), space=space, max_tokens=source.max_tokens, data_fingerprint=text
    )


def calibration_sample(workbench: Workbench) -> list[dict[str, Tensor]]:
    """Return a sample of the training text, teacher-forced; nothing where no setting of a sweep needs it.

    Raises:
        UserError: if the training text cannot be had.
    """
    if not workbench.experiment.sweep.calibrated:
        return []
    return random_batches(workbench.task, workbench.training)
