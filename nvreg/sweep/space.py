"""The space of a sweep: one dimension a parameter and role, from which settings are drawn."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nvreg.attention.settings import Settings, check_value
from nvreg.errors import UserError

Value = float | tuple[float, ...]
"""One value for every layer of a role, or one a layer."""

SYNTAX = "[low, high], {values: [...]}, a number or inf, {layers: [...]} or {each_layer: [low, high]}"


@dataclass(frozen=True)
class Choices:
    """A finite set of values; a fixed value is a set of one."""

    values: tuple[Value, ...]

    def draw(self, generator: np.random.Generator, layers: int) -> Value:
        """Return one of the values."""
        return self.values[generator.integers(len(self.values))]


@dataclass(frozen=True)
class Range:
    """The uniform distribution over [low, high], drawn once a role or, with ``each_layer``, once a layer."""

    low: float
    high: float
    each_layer: bool = False

    def draw(self, generator: np.random.Generator, layers: int) -> Value:
        """Return a value, or one a layer."""
        if self.each_layer:
            return tuple(generator.uniform(self.low, self.high, layers).tolist())
        return float(generator.uniform(self.low, self.high))


Dimension = Choices | Range
Space = Mapping[tuple[str, str], Dimension]
"""Dimension by parameter and role; what is not named is at identity."""


def parse_dimension(parameter: str, written: Any) -> Dimension:
    """Read one dimension as the experiment file writes it.

    Raises:
        ValueError: if the syntax is unknown or a value is not allowed for ``parameter``.
    """
    match written:
        case {"values": [_, *_] as values} if len(written) == 1:
            return Choices(_numbers(parameter, values))
        case {"layers": [_, *_] as values} if len(written) == 1:
            return Choices((_numbers(parameter, values),))
        case {"each_layer": [low, high]} if len(written) == 1:
            return _range(parameter, low, high, each_layer=True)
        case [low, high]:
            return _range(parameter, low, high)
        case bool() | list() | dict() | None:
            raise ValueError(f"expected {SYNTAX}, received {written!r}")
        case _:
            return Choices(_numbers(parameter, [written]))


def parse_space(written: Mapping[str, Mapping[str, Any]]) -> Space:
    """Read a whole space: dimensions by parameter and role.

    Raises:
        ValueError: as `parse_dimension`.
    """
    return {
        (parameter, role): parse_dimension(parameter, dimension)
        for parameter, roles in sorted(written.items())
        for role, dimension in sorted(roles.items())
    }


def check_space(space: Space, layers: Mapping[str, int]) -> None:
    """Check that a model has what the space names.

    Args:
        space: the dimensions.
        layers: number of layers by role of the model.

    Raises:
        UserError: if the model has not a role, or has another number of layers in it.
    """
    for (parameter, role), dimension in space.items():
        where = f"sweep.space.{parameter}.{role}"
        if role not in layers:
            raise UserError(
                f"{where}: expected a role of this model ({', '.join(layers)}), received {role!r}"
            )
        for value in dimension.values if isinstance(dimension, Choices) else ():
            if isinstance(value, tuple) and len(value) != layers[role]:
                raise UserError(
                    f"{where}: expected {layers[role]} values, one a layer, received {len(value)}"
                )


def draw(space: Space, layers: Mapping[str, int], generator: np.random.Generator) -> Settings:
    """Return settings drawn from every dimension independently."""
    return _settings(
        space, [dimension.draw(generator, layers[role]) for (_, role), dimension in space.items()]
    )


def product(space: Space) -> Iterator[Settings]:
    """Yield every combination of a space of `Choices` alone, the last dimension varying fastest."""
    choices = [dimension.values for dimension in space.values() if isinstance(dimension, Choices)]
    return (_settings(space, values) for values in itertools.product(*choices))


def _settings(space: Space, values: Sequence[Value]) -> Settings:
    by_parameter: dict[str, dict[str, Value]] = {}
    for (parameter, role), value in zip(space, values, strict=True):
        by_parameter.setdefault(parameter, {})[role] = value
    return Settings.from_dict(by_parameter)


def _numbers(parameter: str, values: Sequence[Any]) -> tuple[float, ...]:
    return tuple(_number(parameter, value) for value in values)


def _number(parameter: str, value: Any) -> float:
    try:
        return check_value(parameter, value)
    except ValueError as error:
        raise ValueError(str(error).removeprefix(f"{parameter}: ")) from None


def _range(parameter: str, low: Any, high: Any, *, each_layer: bool = False) -> Range:
    low, high = _numbers(parameter, (low, high))
    if not low < high < math.inf:
        raise ValueError(
            f"expected a range [low, high] of finite numbers with low < high, received {[low, high]}"
        )
    return Range(low, high, each_layer)
