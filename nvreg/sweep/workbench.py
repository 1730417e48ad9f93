"""What a sweep works on, loaded once: the model, the settings to try, the task and the encoded data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedModel

from nvreg.attention.settings import Settings
from nvreg.config import Experiment, InDomain, OutOfDomain, Reading, Source
from nvreg.data import Examples, load_examples
from nvreg.models.identity import fingerprint
from nvreg.models.loading import load_model, load_tokenizer
from nvreg.models.registry import layers_by_role
from nvreg.sweep.samplers import settings_to_try
from nvreg.tasks import Encoded, Task, make_task


@dataclass(frozen=True)
class Scored:
    """A split that every trial is scored on."""

    examples: Examples
    encoded: Encoded


@dataclass(frozen=True)
class Workbench:
    """An experiment with everything it names loaded.

    Attributes:
        experiment: what was asked for.
        settings: what will be tried, the pretrained model's first.
        model: not converted yet.
        fingerprint: the model's.
        task: encodes and scores.
        scored: by domain, in-domain first, then by split.
    """

    experiment: Experiment
    settings: list[Settings]
    model: PreTrainedModel
    fingerprint: str
    task: Task
    scored: Mapping[str, Mapping[str, Scored]]

    @property
    def in_domain_validation(self) -> Scored:
        """What strength is measured on, and most selections."""
        return self.scored[self.experiment.data.in_domain.name]["validation"]

    @property
    def reading(self) -> dict[str, Any]:
        """How text becomes tokens, as the experiment asks for it."""
        return self.experiment.data.model_dump(include=Reading.model_fields.keys() - {"columns"})


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
    settings = settings_to_try(experiment.sweep, layers_by_role(model))
    tokenizer = load_tokenizer(source.path, revision=source.revision, trust_remote_code=trust)
    task = make_task(experiment.task, tokenizer, model.config, data=data, evaluation=experiment.evaluation)

    def load(split: Source) -> Scored:
        examples = load_examples(split, data.columns, task.required)
        return Scored(examples, task.encode(examples))

    domains: list[InDomain | OutOfDomain] = [data.in_domain, *data.out_of_domain]
    scored = {
        domain.name: {
            split: load(text)
            for split, text in (("validation", domain.validation), ("test", domain.test))
            if text is not None
        }
        for domain in domains
    }
    return Workbench(experiment, settings, model, fingerprint(model), task, scored)
