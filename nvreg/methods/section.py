"""What an experiment file says of each method that is tried: its space, enqueued settings and options."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache, cached_property
from typing import Any, ClassVar, Self, cast

from pydantic import (
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    ValidationInfo,
    create_model,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, SchemaValidator, core_schema

from nvreg.config import Section
from nvreg.methods import METHODS, Method
from nvreg.parameters import Setting
from nvreg.space import Space, parse_space


class MethodSpace(Section):
    """What is tried of a method: ``enqueue`` first, then what the sampler draws from ``space``."""

    method: ClassVar[type[Method]]

    space: dict[str, Any]
    """Dimensions by parameter, or by parameter and role: [low, high] is a range, {values: [...]} choices,
    a number or inf is fixed, {layers: [...]} fixed with one value a layer, {each_layer: [low, high]} a range
    drawn for every layer by itself. What is not named is as pretrained."""

    enqueue: list[dict[str, Any]] = Field(default_factory=list)
    """Settings to try first: values by parameter, or by parameter and role."""

    @classmethod
    def _written_out(cls, given: dict[str, Any]) -> dict[str, Any]:
        given = super()._written_out(given)
        if "pretrained" not in cls.model_fields and given.get("pretrained", ...) is None:
            del given["pretrained"]  # runs of earlier versions have it for every method
        return given

    @cached_property
    def dimensions(self) -> Space:
        """The space, read once."""
        with _under("space"):
            return parse_space(self.method.setting_type.parameters, self.space)

    @cached_property
    def enqueued(self) -> list[Setting]:
        """The enqueued settings, read once."""
        settings = []
        for place, values in enumerate(self.enqueue):
            with _under(f"enqueue.{place}"):
                settings.append(self.method.setting_type.from_dict(values))
        return settings

    @property
    def parameters(self) -> set[str]:
        """The parameters that some setting may move from identity."""
        return set(self.space).union(*self.enqueue)

    @property
    def calibrated(self) -> set[str]:
        """Those of them that are solved for on training text."""
        return self.parameters & self.method.calibrated

    def make(self) -> Method:
        """Return the method, made with its options."""
        return self.method(**{name: getattr(self, name) for name in self.method.options.model_fields})

    @model_validator(mode="after")
    def _read(self) -> Self:
        if not self.dimensions:
            raise ValueError("space: expected at least one dimension, got none")
        _ = self.enqueued
        return self


@contextmanager
def _under(key: str) -> Iterator[None]:
    """Have a mistake name the key that it was read from."""
    try:
        yield
    except ValueError as error:
        separator = ": " if str(error).startswith("expected") else "."
        raise ValueError(f"{key}{separator}{error}") from None


@cache
def space_of(method: type[Method]) -> type[MethodSpace]:
    """Return the schema of what is tried of a method: its parameters by name, and its options."""
    rules = method.setting_type.parameters.items()
    named: dict[str, Any] = {
        "properties": {name: {"description": rule.allowed} for name, rule in rules},
        "additionalProperties": False,
    }
    described = {name: field.description for name, field in MethodSpace.model_fields.items()}
    space = Field(description=described["space"], json_schema_extra={**named, "minProperties": 1})
    enqueue: Any = Field(
        default_factory=list,
        description=described["enqueue"],
        json_schema_extra={"items": {"type": "object", **named}},
    )
    fields: dict[str, Any] = {"space": (dict[str, Any], space), "enqueue": (list[dict[str, Any]], enqueue)}
    bases = (MethodSpace, method.options)
    schema = cast(type[MethodSpace], create_model(method.__name__, __base__=bases, **fields))
    schema.method = method
    return schema


def _spaces_of(methods: Iterable[str]) -> CoreSchema:
    """Return the schema of a mapping from methods to what is tried of each."""
    spaces = {name: space_of(METHODS[name]).__pydantic_core_schema__ for name in methods}
    return core_schema.typed_dict_schema(
        {name: core_schema.typed_dict_field(space, required=False) for name, space in spaces.items()}
    )


class ByMethod:
    """What makes each value of a mapping by method that method's `MethodSpace`."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.with_info_before_validator_function(self._read, handler(source))

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        written = handler(_spaces_of(name for name, _ in METHODS.items()))
        return {**written, "minProperties": 1, "additionalProperties": False}

    @staticmethod
    def _read(given: Any, info: ValidationInfo) -> Any:
        if not isinstance(given, dict):
            return given
        spaces = _spaces_of(map(METHODS.check, map(str, given)))
        return SchemaValidator(spaces).validate_python(given, context=info.context)
