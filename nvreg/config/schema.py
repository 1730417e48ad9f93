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

from nvreg.attention.settings import Settings
from nvreg.sweep.space import Range, parse_dimension, parse_space
from nvreg.tasks.metrics import METRICS

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
FileName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
"""A name that files are called by."""


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _name_nearest_key(cls, given: Any) -> Any:
        for key in given if isinstance(given, dict) else ():
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


class ModelSource(_Section):
    """A checkpoint: a local directory or a name on the hub."""

    path: ModelPath
    revision: str | None = None
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    device: str = "auto"
    trust_remote_code: bool = False


class Source(_Section):
    """Where records come from: ``files``, ``source_file`` with ``target_file``, or ``hub``.

    ``limit`` takes the first records, or random ones where a ``seed`` is given.
    """

    files: InputPath | None = None
    source_file: InputPath | None = None
    target_file: InputPath | None = None
    hub: str | None = None
    config: str | None = None
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
        if self.hub is None and (self.config is not None or self.split is not None):
            raise ValueError("expected config and split only with hub")
        if self.seed is not None and self.limit is None:
            raise ValueError("expected a limit with the seed, which draws that many records")
        return self


class InDomain(_Section):
    """The domain the model was tuned on; ``train`` feeds the prior and is never scored."""

    name: FileName
    train: Source | None = None
    validation: Source
    test: Source


class OutOfDomain(_Section):
    """Another domain; ``validation`` is needed by two selection protocols."""

    name: FileName
    validation: Source | None = None
    test: Source


class Reading(_Section):
    """How the model reads text: ``max_length`` in source tokens, by default the model's limit."""

    columns: dict[str, str] = {}
    max_length: PositiveInt | None = None
    source_prefix: str | None = None
    source_language: str | None = None
    target_language: str | None = None


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


class PriorSource(_Section):
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


class Space(_Section):
    """Dimensions by role, in the syntax of `nvreg.sweep.space`; what is not named is at identity."""

    tau_alpha: dict[str, Any] = {}
    tau_sigma: dict[str, Any] = {}
    tau_mu: dict[str, Any] = {}

    @field_validator("*")
    @classmethod
    def _dimensions(cls, roles: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
        for role, written in roles.items():
            try:
                parse_dimension(str(info.field_name), written)
            except ValueError as error:
                raise ValueError(f"{role}: {error}") from None
        return roles


class Sweep(_Section):
    """Which settings are tried: ``enqueue`` first, then the sampler's, ``trials`` in all."""

    method: Literal["nv"] = "nv"
    sampler: Literal["grid", "random"]
    trials: PositiveInt | None = None
    seed: NonNegativeInt = 0
    enqueue: list[dict[str, Any]] = []
    space: Space

    @field_validator("enqueue")
    @classmethod
    def _settings(cls, enqueue: list[dict[str, Any]]) -> list[dict[str, Any]]:
        for given in enqueue:
            Settings.from_dict(given)
        return enqueue

    @model_validator(mode="after")
    def _sampler_suits_space(self) -> Self:
        space = parse_space(self.space.model_dump())
        if not space:
            raise ValueError("expected at least one dimension in space, received none")
        if self.sampler == "random" and self.trials is None:
            raise ValueError("expected trials, the number of settings that the random sampler draws")
        for (parameter, role), dimension in space.items():
            if self.sampler == "grid" and isinstance(dimension, Range):
                raise ValueError(
                    f"space.{parameter}.{role}: expected {{values: [...]}} or a fixed value, "
                    "which sampler: grid needs, received a range"
                )
        return self


class Generation(_Section):
    """Decoding of predictions: ``max_new_tokens`` in target tokens."""

    num_beams: PositiveInt = 4
    max_new_tokens: PositiveInt = 128


class Evaluation(_Section):
    """What is measured; ``batch_tokens`` bounds the padded tokens of a batch."""

    metrics: Annotated[list[str], Field(min_length=1)]
    batch_tokens: PositiveInt | Literal["auto"] = "auto"
    generation: Generation = Generation()

    @field_validator("metrics")
    @classmethod
    def _known(cls, metrics: list[str]) -> list[str]:
        for name in metrics:
            if name not in METRICS:
                raise ValueError(f"expected some of {', '.join(METRICS)}, received {name!r}")
        return metrics


class Selection(_Section):
    """How a setting is chosen from the trials."""

    metric: str
    protocols: Annotated[list[Protocol], Field(min_length=1)]


class Experiment(_Section):
    """One experiment file. ``output`` is relative to the working directory."""

    name: str
    task: Literal["translation"]
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
        metric, metrics = self.selection.metric, self.evaluation.metrics
        if metric not in metrics or METRICS[metric].higher_is_better is None:
            better = [name for name in metrics if METRICS[name].higher_is_better is not None]
            raise ValueError(
                f"selection.metric: expected one of evaluation.metrics with a better direction "
                f"({', '.join(better)}), received {metric!r}"
            )
        return self
