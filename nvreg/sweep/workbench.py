"""What a sweep works on, loaded once: the model, the task and the encoded data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from transformers import PreTrainedModel

from nvreg.config import InDomain, OutOfDomain, Source
from nvreg.data import Examples, load_examples
from nvreg.errors import UserError
from nvreg.experiment import Experiment
from nvreg.identity import fingerprint
from nvreg.models.loading import load_model, load_tokenizer
from nvreg.models.registry import layers_by_role
from nvreg.sweep.search import planned
from nvreg.tasks import Encoded, Task, encode, make_task


@dataclass(frozen=True)
class Scored:
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
        task: encodes and scores.
        scored: by domain, in-domain first, then by split.
    """

    experiment: Experiment
    model: PreTrainedModel
    fingerprint: str
    task: Task
    scored: Mapping[str, Mapping[str, Scored]]

    @property
    def layers(self) -> Mapping[str, int]:
        """Number of layers by role of the model."""
        return layers_by_role(self.model)

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
    def in_domain_validation(self) -> Scored:
        """What strength is measured on, and most selections."""
        return self.scored[self.experiment.data.in_domain.name]["validation"]


def open_workbench(experiment: Experiment) -> Workbench:
    """Load and check everything an experiment names, except its training text.

    Raises:
        UserError: if the model or data cannot be had, or the space does not fit the model.
    """
    source, data = experiment.model, experiment.data
    trust = source.trust_remote_code
    model = load_model(
        source.path,
        experiment.task,
        revision=source.revision,
        dtype=source.dtype,
        device=source.device,
        trust_remote_code=trust,
    )
    planned(experiment.sweep, layers_by_role(model))
    tokenizer = load_tokenizer(source.path, revision=source.revision, trust_remote_code=trust)
    task = make_task(experiment.task, tokenizer, model.config, data=data, evaluation=experiment.evaluation)

    racing = experiment.sweep.racing

    def load(source: Source, domain: str, split: str) -> Scored:
        examples = load_examples(source, data.columns, task.required)
        encoded, parts = encode(task, examples, f"{domain} {split}"), [examples.records]
        if racing and split == "validation":
            parts = [examples.records[: racing.after], examples.records[racing.after :]]
        if not parts[-1] or len(parts) == 1:
            return Scored(examples, encoded, (encoded,))
        return Scored(examples, encoded, tuple(task.encode(Examples(part)) for part in parts))

    domains: list[InDomain | OutOfDomain] = [data.in_domain, *data.out_of_domain]
    scored = {
        domain.name: {
            split: load(text, domain.name, split)
            for split, text in (("validation", domain.validation), ("test", domain.test))
            if text is not None
        }
        for domain in domains
    }
    return Workbench(experiment, model, fingerprint(model), task, scored)
