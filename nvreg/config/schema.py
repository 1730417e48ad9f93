"""The sections of the experiment file as pydantic models."""

from __future__ import annotations

import os
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeInt,
    PositiveInt,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from nvreg.errors import UserError
from nvreg.methods import METHODS
from nvreg.sweep.space import Range, Space, parse_space
from nvreg.tasks.metrics import METRICS, check_metrics

Protocol = Literal[
    "in-domain", "in-domain-tolerance", "leave-one-domain-out", "out-of-domain-validation", "oracle"
]


def _absolute(path: str, info: ValidationInfo) -> str:
    """Resolve a path against the directory of the experiment file."""
    return os.path.abspath(_directory(info) / os.path.expanduser(path))


def _absolute_if_local(path: str, info: ValidationInfo) -> str:
    """Resolve a path, and leave the name of a model on the hub as it is."""
    local = path.startswith((".", "/", "~")) or (_directory(info) / path).exists()
    return _absolute(path, info) if local else path


def _directory(info: ValidationInfo) -> Path:
    return Path((info.context or {}).get("directory", "."))


InputPath = Annotated[str, AfterValidator(_absolute)]
ModelPath = Annotated[str, AfterValidator(_absolute_if_local)]
TaskName = Literal["translation", "summarisation", "language-modelling", "classification", "multiple-choice"]
FileName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
"""A name that files are called by."""


class Section(BaseModel):
    """Keys with values, where an unknown key is an error that names the nearest known one."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _name_nearest_key(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        given = cls._written_out(dict(given))
        for key in given:
            if key not in cls.model_fields:
                near = get_close_matches(str(key), cls.model_fields, n=1)
                raise PydanticCustomError(
                    "unknown_key",
                    "unknown key{hint}; known keys: {known}",
                    {
                        "key": str(key),
                        "hint": f", did you mean {near[0]!r}?" if near else "",
                        "known": ", ".join(cls.model_fields),
                    },
                )
        return given

    @classmethod
    def _written_out(cls, given: dict[str, Any]) -> dict[str, Any]:
        """Return what a shorter form stands for."""
        return given


class ModelSource(Section):
    """A checkpoint: a local directory or a name on the hub."""

    path: ModelPath
    revision: str | None = None
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    device: str = "auto"
    trust_remote_code: bool = False


class Source(Section):
    """Where records come from: ``files``, ``source_file`` with ``target_file``, or ``hub``.

    ``limit`` takes the first records, or random ones where a ``seed`` is given.
    """

    files: InputPath | None = None
    source_file: InputPath | None = None
    target_file: InputPath | None = None
    hub: str | None = None
    config: str | None = None
    revision: str | None = None
    split: str | None = None
    limit: PositiveInt | None = None
    seed: NonNegativeInt | None = None
    columns: dict[str, str] = {}

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        parallel = self.source_file is not None or self.target_file is not None
        places = [self.files is not None, parallel, self.hub is not None]
        if sum(places) != 1 or (self.source_file is None) != (self.target_file is None):
            raise ValueError(
                "expected files, source_file with target_file, or hub; received "
                + (", ".join(sorted(self.model_fields_set)) or "nothing")
            )
        if self.hub is None and any((self.config, self.revision, self.split)):
            raise ValueError("expected config, revision and split only with hub")
        if self.seed is not None and self.limit is None:
            raise ValueError("expected a limit with the seed, which draws that many records")
        return self


class InDomain(Section):
    """The domain the model was tuned on; ``train`` feeds the prior and is never scored."""

    name: FileName
    train: Source | None = None
    validation: Source
    test: Source


class OutOfDomain(Section):
    """Another domain; ``validation`` is needed by two selection protocols."""

    name: FileName
    validation: Source | None = None
    test: Source


class Reading(Section):
    """How the model reads text.

    ``max_length`` is in source tokens, by default the model's limit; ``labels`` maps labels of the data to
    those of the model, where they differ.
    """

    columns: dict[str, str] = {}
    max_length: PositiveInt | None = None
    source_prefix: str | None = None
    source_language: str | None = None
    target_language: str | None = None
    labels: dict[str, str] | None = None


class Data(Reading):
    """All text, and how the model reads it."""

    in_domain: InDomain
    out_of_domain: Annotated[list[OutOfDomain], Field(min_length=1)]

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        names = [self.in_domain.name, *(domain.name for domain in self.out_of_domain)]
        if len(set(names)) < len(names):
            raise ValueError(f"expected domains of different names, received {', '.join(names)}")
        return self


class PriorSource(Section):
    """How the prior is made, or the file of a saved one."""

    kind: Literal["empirical", "gaussian"] | None = None
    max_tokens: PositiveInt | None = None
    path: InputPath | None = None

    @model_validator(mode="before")
    @classmethod
    def _empirical_by_default(cls, given: Any) -> Any:
        return {"kind": "empirical", **given} if isinstance(given, dict) and "path" not in given else given

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if self.path is not None and self.kind is not None:
            raise ValueError("expected kind or path, received both")
        if self.max_tokens is not None and self.kind != "empirical":
            raise ValueError("expected max_tokens only with kind: empirical")
        return self


class MethodSpace(Section):
    """What is tried of a method: ``enqueue`` first, then what the sampler draws from ``space``.

    ``space`` has dimensions by parameter and role, in the syntax of `nvreg.sweep.space`; what it does not
    name is at identity. ``pretrained`` is the checkpoint that wise-ft mixes with.
    """

    space: dict[str, Any]
    enqueue: list[dict[str, Any]] = []
    pretrained: ModelPath | None = None

    @property
    def parameters(self) -> set[str]:
        """The parameters that some setting may move from identity."""
        return set(self.space).union(*self.enqueue)


class Racing(Section):
    """Settings that are clearly worse after so many examples of every validation set are stopped."""

    after: PositiveInt


class Seeded(Section):
    """What is done once a seed; ``seed`` may stand for one of ``seeds``."""

    seeds: Annotated[list[NonNegativeInt], Field(min_length=1)] = [0]

    @classmethod
    def _written_out(cls, given: dict[str, Any]) -> dict[str, Any]:
        if "seed" in given:
            if "seeds" in given:
                raise ValueError("expected seed or seeds, received both")
            given["seeds"] = [given.pop("seed")]
        return given

    @field_validator("seeds")
    @classmethod
    def _seeds_differ(cls, seeds: list[int]) -> list[int]:
        if len(set(seeds)) < len(seeds):
            raise ValueError(f"expected different seeds, received {seeds}")
        return seeds


class Sweep(Seeded):
    """Which settings are tried: ``trials`` of each method and seed, the enqueued ones included.

    ``method``, ``space`` and ``enqueue`` may stand for ``methods`` with one method.
    """

    methods: Annotated[dict[str, MethodSpace], Field(min_length=1)]
    sampler: Literal["grid", "random", "tpe"]
    trials: PositiveInt | None = None
    racing: Racing | None = None

    @classmethod
    def _written_out(cls, given: dict[str, Any]) -> dict[str, Any]:
        given = super()._written_out(given)
        single = {key: given.pop(key) for key in ("method", *MethodSpace.model_fields) if key in given}
        if single and "methods" in given:
            raise ValueError(f"expected methods or {next(iter(single))}, received both")
        return {"methods": {single.pop("method", "nv"): single}, **given} if single else given

    @model_validator(mode="after")
    def _methods_read_their_spaces(self) -> Self:
        if self.sampler != "grid" and self.trials is None:
            raise ValueError(f"expected trials, the number of settings that sampler: {self.sampler} draws")
        for name, written in self.methods.items():
            if name not in METHODS:
                raise ValueError(f"method: expected one of {', '.join(METHODS)}, received {name!r}")
            where = f"methods.{name}." if len(self.methods) > 1 else ""
            wanted = "pretrained" in METHODS[name].options
            if wanted != (written.pretrained is not None):
                expected = "a checkpoint" if wanted else "none"
                raise ValueError(
                    f"{where}pretrained: expected {expected} with {name}, received {written.pretrained}"
                )
            try:
                self._check_space(parse_space(METHODS[name].setting.parameters, written.space))
            except ValueError as error:
                separator = ": " if str(error).startswith("expected") else "."
                raise ValueError(f"{where}space{separator}{error}") from None
            for setting in written.enqueue:
                try:
                    METHODS[name].setting.from_dict(setting)
                except ValueError as error:
                    raise ValueError(f"{where}enqueue: {error}") from None
        return self

    def _check_space(self, space: Space) -> None:
        if not space:
            raise ValueError("expected at least one dimension, received none")
        for (parameter, role), dimension in space.items():
            if self.sampler == "grid" and isinstance(dimension, Range):
                raise ValueError(
                    f"{parameter}{f'.{role}' if role else ''}: expected {{values: [...]}} or a fixed value, "
                    "which sampler: grid needs, received a range"
                )


class Generation(Section):
    """Decoding of predictions: ``max_new_tokens`` in target tokens."""

    num_beams: PositiveInt = 4
    max_new_tokens: PositiveInt = 128


class Evaluation(Section):
    """What is measured.

    ``batch_tokens`` bounds the padded tokens of a batch. ``window`` and ``stride``, in tokens, are language
    modelling's: each window is scored where the one before it has not been, by default the model's positions
    and half a window.
    """

    metrics: Annotated[list[str], Field(min_length=1)]
    batch_tokens: PositiveInt | Literal["auto"] = "auto"
    generation: Generation = Generation()
    window: PositiveInt | None = None
    stride: PositiveInt | None = None

    @field_validator("metrics")
    @classmethod
    def _known(cls, metrics: list[str]) -> list[str]:
        for name in metrics:
            if name not in METRICS:
                raise ValueError(f"expected some of {', '.join(METRICS)}, received {name!r}")
        return metrics

    @model_validator(mode="after")
    def _stride_within_window(self) -> Self:
        if self.stride and self.window and self.stride > self.window:
            raise ValueError(f"stride: expected at most the window of {self.window}, received {self.stride}")
        return self


class Selection(Section):
    """How a setting is chosen from the trials."""

    metric: str
    protocols: Annotated[list[Protocol], Field(min_length=1)]


class Experiment(Section):
    """One experiment file. ``output`` is relative to the working directory."""

    name: str
    task: TaskName
    model: ModelSource
    data: Data
    prior: PriorSource = PriorSource(kind="empirical")
    sweep: Sweep
    evaluation: Evaluation
    selection: Selection
    output: str

    @model_validator(mode="after")
    def _sections_agree(self) -> Self:
        if self.prior.kind == "empirical" and self.data.in_domain.train is None:
            raise ValueError("expected data.in_domain.train, which the empirical prior is estimated on")
        calibrated = any("prior_weight" in method.parameters for method in self.sweep.methods.values())
        if calibrated and self.data.in_domain.train is None:
            raise ValueError("expected data.in_domain.train, which prior_weight is calibrated on")
        metric, metrics = self.selection.metric, self.evaluation.metrics
        try:
            check_metrics(self.task, metrics)
        except UserError as error:
            raise ValueError(str(error)) from None
        if metric not in metrics or METRICS[metric].higher_is_better is None:
            better = [name for name in metrics if METRICS[name].higher_is_better is not None]
            raise ValueError(
                f"selection.metric: expected one of evaluation.metrics with a better direction "
                f"({', '.join(better)}), received {metric!r}"
            )
        if self.sweep.racing and METRICS[metric].of_examples is None:
            raise ValueError(
                "selection.metric: expected a metric that scores single examples, which sweep.racing "
                f"compares, received {metric!r}"
            )
        return self
