"""The experiment file: its sections as pydantic models, how they agree, and its loading."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    Field,
    GetJsonSchemaHandler,
    SerializeAsAny,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from nvreg.config.loading import load_checked
from nvreg.config.sections import (
    Count,
    Data,
    Evaluation,
    InputPath,
    ModelSource,
    NameIn,
    Reading,
    Section,
    Seeded,
    Source,
)
from nvreg.errors import UserError
from nvreg.methods import METHODS
from nvreg.methods.section import ByMethod, MethodSpace, space_of
from nvreg.metrics import METRICS
from nvreg.protocols import PROTOCOLS
from nvreg.samplers import SAMPLERS
from nvreg.space import OneOf, Space
from nvreg.tasks import TASKS

ProtocolName = Annotated[str, NameIn(PROTOCOLS)]
TaskName = Annotated[str, NameIn(TASKS)]


MOST_TRIALS = 100_000
"""Settings of a method and seed at most."""


class PriorSource(Section):
    """How the prior is made, or the file of a saved one."""

    kind: Literal["empirical", "gaussian"] | None = None
    """Moments of in-domain training text, or the standard Gaussian."""

    max_tokens: Count | None = None
    """Tokens of the training text that the empirical prior is estimated on; by default all."""

    path: InputPath | None = None
    """File of a prior that nvreg prior saved."""

    @model_validator(mode="before")
    @classmethod
    def _empirical_by_default(cls, given: Any) -> Any:
        return {"kind": "empirical", **given} if isinstance(given, dict) and "path" not in given else given

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if self.path is not None and self.kind is not None:
            raise ValueError("expected kind or path, got both")
        if self.max_tokens is not None and self.kind != "empirical":
            raise ValueError("expected max_tokens only with kind: empirical")
        return self


class Racing(Section):
    """Settings that are clearly worse after some of the examples are stopped."""

    after: Count
    """How many examples of every validation set decide."""


class Sweep(Seeded):
    """Which settings are tried.

    ``method``, ``space``, ``enqueue`` and the method's options may stand for ``methods`` with one method.
    """

    methods: Annotated[dict[str, SerializeAsAny[MethodSpace]], Field(min_length=1), ByMethod()]
    """What is tried of each method; each has the same sampler and number of trials."""

    sampler: Annotated[str, NameIn(SAMPLERS)]
    """How settings are drawn: every combination, independent draws, draws that learn from the results, or
    every role and layer by itself."""

    trials: Annotated[Count, Field(le=MOST_TRIALS)] | None = None
    """Settings to try of each method and seed, the enqueued ones included."""

    racing: Racing | None = None
    """Stops clearly worse settings early."""

    @classmethod
    def _written_out(cls, given: dict[str, Any]) -> dict[str, Any]:
        given = super()._written_out(given)
        options = (name for method in METHODS.values() for name in method.options.model_fields)
        single = {"method", *MethodSpace.model_fields, *options}
        written = {key: given.pop(key) for key in list(given) if key in single}
        if not written:
            return given
        if "methods" in given:
            raise ValueError(f"expected methods or {next(iter(written))}, got both")
        method = written.pop("method", "nv")
        try:
            return {"methods": {METHODS.check(str(method)): written}, **given}
        except ValueError as error:
            raise ValueError(f"method: {error}") from None

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        written = handler.resolve_ref_schema(super().__get_pydantic_json_schema__(schema, handler))
        written["required"].remove("methods")
        written["oneOf"] = [{"required": ["methods"]}, {"required": ["space"]}]
        one = {"method": {"enum": list(METHODS), "description": "The method, where there is one alone."}}
        for method in METHODS.values():
            properties = handler.resolve_ref_schema(handler(space_of(method).__pydantic_core_schema__))
            one |= {name: each for name, each in properties["properties"].items() if name not in one}
        for name in ("space", "enqueue"):
            one[name] = {"type": one[name]["type"], "description": one[name]["description"]}
        written["properties"] |= one
        return written

    @property
    def calibrated(self) -> set[str]:
        """Parameters that are solved for on training text, of all methods."""
        return set().union(*(written.calibrated for written in self.methods.values()))

    @model_validator(mode="after")
    def _sampler_can_draw(self) -> Self:
        sampler = SAMPLERS[self.sampler]
        if sampler.needs_trials and self.trials is None:
            raise ValueError(f"expected trials, the number of settings that sampler: {self.sampler} draws")
        if not sampler.takes_trials and self.trials is not None:
            raise ValueError(
                f"trials: expected none, as the space and the model's layers decide how many settings "
                f"sampler: {self.sampler} has, got {self.trials}"
            )
        for name, written in self.methods.items():
            where = f"methods.{name}." if len(self.methods) > 1 else ""
            try:
                sampler.check(written.dimensions, written.method.setting_type)
                self._check_count(written.dimensions)
            except ValueError as error:
                separator = ": " if str(error).startswith("expected") else "."
                raise ValueError(f"{where}space{separator}{error}") from None
        return self

    def _check_count(self, space: Space) -> None:
        """Check that a space of which every combination is tried is not too large."""
        sampler = SAMPLERS[self.sampler]
        if sampler.needs_trials or not sampler.combines or self.trials is not None:
            return
        choices = [len(dimension.values) for dimension in space.values() if isinstance(dimension, OneOf)]
        if (count := math.prod(choices)) > MOST_TRIALS:
            raise ValueError(f"expected at most {MOST_TRIALS} settings, got {count:.3g}; write trials")


class Selection(Section):
    """How a setting is chosen from the trials."""

    metric: Annotated[str, NameIn(METRICS)]
    """One of ``evaluation.metrics``, with a better direction."""

    protocols: Annotated[list[ProtocolName], Field(min_length=1)]
    """The ways to choose that the report shows."""


class Experiment(Section):
    """One experiment file."""

    name: str
    """Name of the experiment, in its report."""

    task: TaskName
    """What the model is to do with an example."""

    model: ModelSource
    """The checkpoint that is regularised."""

    data: Data
    """All text, and how the model reads it."""

    prior: PriorSource = PriorSource(kind="empirical")
    """The prior of NV regularisation."""

    sweep: Sweep
    """Which settings are tried."""

    evaluation: Evaluation
    """What is measured."""

    selection: Selection
    """How a setting is chosen."""

    output: str
    """Directory of the results, relative to the working directory."""

    @property
    def goes_without_labels(self) -> bool:
        """Whether out-of-domain examples may have no labels, as a protocol chooses by texts alone."""
        by_texts = any(PROTOCOLS[name].reads_texts for name in self.selection.protocols)
        return by_texts and TASKS[self.task].unlabelled == "confidence"

    def reads_labels(self, domain: str, split: str) -> bool:
        """Return whether the labels of a split are read, where it has any.

        Those of validation sets out of domain are not where none but `unlabelled` chooses by these sets.
        """
        by_labels = any(PROTOCOLS[name].sees_validation_elsewhere for name in self.selection.protocols)
        is_unseen = split == "validation" and domain != self.data.in_domain.name and not by_labels
        return not (is_unseen and self.goes_without_labels)

    @model_validator(mode="after")
    def _sections_agree(self) -> Self:
        needs_prior = any(METHODS[name].space is not None for name in self.sweep.methods)
        if needs_prior and self.prior.kind == "empirical" and self.data.in_domain.train is None:
            raise ValueError("expected data.in_domain.train, which the empirical prior is estimated on")
        if self.sweep.calibrated and self.data.in_domain.train is None:
            names = ", ".join(sorted(self.sweep.calibrated))
            raise ValueError(f"expected data.in_domain.train, which {names} is calibrated on")
        metric, metrics = self.selection.metric, self.evaluation.metrics
        generated = [name for name in metrics if METRICS[name].is_of_generated_text]
        for name in self.sweep.methods:
            if generated and not METHODS[name].generates:
                raise ValueError(
                    f"evaluation.metrics: expected none of generated text with {name}, which generates none, "
                    f"got {', '.join(generated)}; leave them out, or sweep {name} in a file of its own"
                )
        try:
            TASKS[self.task].check_columns(self.data)
            TASKS[self.task].check_metrics(metrics)
        except UserError as error:
            raise ValueError(str(error)) from None
        if metric not in metrics or METRICS[metric].higher_is_better is None:
            better = [name for name in metrics if METRICS[name].higher_is_better is not None]
            raise ValueError(
                f"selection.metric: expected one of evaluation.metrics with a better direction "
                f"({', '.join(better)}), got {metric!r}"
            )
        if self.goes_without_labels and not self.evaluation.keeps_temperatures:
            raise ValueError(
                "evaluation.temperatures: expected some beside 1, with which probabilities of classes are "
                "kept, as protocol unlabelled needs, got none"
            )
        return self


def load_experiment(
    path: Path | str, overrides: Sequence[str] = (), *, is_record: bool = False
) -> Experiment:
    """Read and check an experiment file.

    Args:
        path: the YAML file. Input paths in it are relative to its directory and returned absolute.
        overrides: ``a.b=value`` each, set before checking: a dotted path of keys (and of positions in lists,
            from 0) and a YAML value.
        is_record: the file is of a run that is there already, and may say what has no use.

    Raises:
        UserError: if the file cannot be read, or a key or value is not what the schema expects, or of no use.
    """
    experiment = load_checked(Experiment, path, overrides)
    if not is_record:
        check_sense(path, experiment.task, experiment.data, experiment.evaluation)
    return experiment


def check_sense(path: Path | str, task: str, data: Reading, evaluation: Evaluation | None) -> None:
    """Check that a file which its schema allows says nothing that can only be meant otherwise.

    Args:
        path: the file, for the message.
        task: name of the task.
        data: its data section.
        evaluation: its evaluation section, if it has one.

    Raises:
        UserError: if a key is of no use to the task, or two splits that have to differ are one.
    """
    try:
        TASKS[task].check_use(data, evaluation)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    known: list[tuple[str, Source]] = []
    for key, _, split, source in data.splits():
        for other, earlier in known:
            in_domain = other.startswith("data.in_domain.")
            if earlier.shares_records(source) and (other.startswith(f"{key}.") or in_domain):
                raise UserError(
                    f"{path}: {key}.{split}: expected other examples than those of {other}, got the same "
                    f"({', '.join(map(str, source.place.values()))}); name others"
                )
        known.append((f"{key}.{split}", source))
