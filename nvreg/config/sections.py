"""The sections of every file, of experiments and of fine-tunings: paths, model, data and seeds."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    NonNegativeInt,
    PositiveInt,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from nvreg.metrics import METRICS
from nvreg.metrics.tokenisation import BleuTokenizer, RougeTokenizer
from nvreg.registry import Registry, did_you_mean


def _absolute(path: str, info: ValidationInfo) -> str:
    """Resolve a path against the directory of the file."""
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


class NameIn:
    """What makes a text the name of something registered: ``Annotated[str, NameIn(TASKS)]``.

    Whatever is registered when a file is checked is known, and an enumeration in the JSON Schema.

    Args:
        registry: of the kind that is named.
    """

    def __init__(self, registry: Registry[Any]) -> None:
        self.registry = registry

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self.registry.check, handler(source))

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        return {**handler(schema), "enum": list(self.registry)}


class Section(BaseModel):
    """Keys with values, where an unknown key is an error that names the nearest known one."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    @model_validator(mode="before")
    @classmethod
    def _name_nearest_key(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        given = cls._written_out(dict(given))
        for key in given:
            if key not in cls.model_fields:
                raise PydanticCustomError(
                    "unknown_key",
                    "unknown key{hint}; known keys: {known}",
                    {
                        "key": str(key),
                        "hint": did_you_mean(str(key), cls.model_fields),
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
                "expected files, source_file with target_file, or hub; got "
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

    @property
    def options(self) -> dict[str, Any]:
        """Everything but the names of columns: what else decides how text becomes tokens."""
        return self.model_dump(include=Reading.model_fields.keys() - {"columns"})


class Data(Reading):
    """All text, and how the model reads it."""

    in_domain: InDomain
    out_of_domain: Annotated[list[OutOfDomain], Field(min_length=1)]

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        names = [self.in_domain.name, *(domain.name for domain in self.out_of_domain)]
        if len(set(names)) < len(names):
            raise ValueError(f"expected domains of different names, got {', '.join(names)}")
        return self


class Seeded(Section):
    """What is done once a seed; ``seed`` may stand for one of ``seeds``."""

    seeds: Annotated[list[NonNegativeInt], Field(min_length=1)] = [0]

    @classmethod
    def _written_out(cls, given: dict[str, Any]) -> dict[str, Any]:
        if "seed" in given:
            if "seeds" in given:
                raise ValueError("expected seed or seeds, got both")
            given["seeds"] = [given.pop("seed")]
        return given

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        written = handler.resolve_ref_schema(super().__get_pydantic_json_schema__(schema, handler))
        seed = {"type": "integer", "minimum": 0, "description": "One seed, in place of seeds."}
        written["properties"]["seed"] = seed
        return written

    @field_validator("seeds")
    @classmethod
    def _seeds_differ(cls, seeds: list[int]) -> list[int]:
        if len(set(seeds)) < len(seeds):
            raise ValueError(f"expected different seeds, got {seeds}")
        return seeds


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

    metrics: Annotated[list[Annotated[str, NameIn(METRICS)]], Field(min_length=1)]
    batch_tokens: PositiveInt | Literal["auto"] = "auto"
    generation: Generation = Generation()
    window: PositiveInt | None = None
    stride: PositiveInt | None = None
    bleu_tokenize: BleuTokenizer | None = None
    rouge_tokenize: RougeTokenizer | None = None

    @property
    def options(self) -> dict[str, Any]:
        """What can change a number, beside what the signatures of metrics say and the size of batches."""
        return self.model_dump(exclude={"batch_tokens", "bleu_tokenize", "rouge_tokenize"})

    @model_validator(mode="after")
    def _stride_within_window(self) -> Self:
        if self.stride and self.window and self.stride > self.window:
            raise ValueError(f"stride: expected at most the window of {self.window}, got {self.stride}")
        return self
