"""The space of a sweep: one dimension a parameter and role, from which settings are drawn."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nvreg.errors import UserError, expected_one_of, shown
from nvreg.parameters import ROLES, Parameter, Value

SYNTAX = "[low, high], {values: [...]}, a number or inf, {layers: [...]} or {each_layer: [low, high]}"

MOST_WHOLE = 100_000
"""Whole numbers of a range at most, each of which is a choice."""


@dataclass(frozen=True)
class OneOf:
    """A finite set of values; a fixed value is a set of one."""

    values: tuple[Value, ...]

    def draw(self, generator: np.random.Generator, layers: int) -> Value:
        """Return one of the values."""
        return self.values[generator.integers(len(self.values))]


@dataclass(frozen=True)
class Range:
    """The uniform or log-uniform distribution over [low, high].

    It is drawn once a role or, with ``each_layer``, once a layer.
    """

    low: float
    high: float
    each_layer: bool = False
    logarithmic: bool = False

    def draw(self, generator: np.random.Generator, layers: int) -> Value:
        """Return a value, or one a layer."""
        low, high = (math.log(self.low), math.log(self.high)) if self.logarithmic else (self.low, self.high)
        drawn = generator.uniform(low, high, layers if self.each_layer else 1)
        values = np.clip(np.exp(drawn), self.low, self.high) if self.logarithmic else drawn
        return tuple(values.tolist()) if self.each_layer else float(values[0])


Dimension = OneOf | Range
Space = Mapping[tuple[str, str | None], Dimension]
"""Dimension by parameter and role, None for all roles at once; what is not named is at identity."""


def parse_dimension(name: str, parameter: Parameter, written: Any) -> Dimension:
    """Read one dimension as the experiment file writes it.

    Raises:
        ValueError: if the syntax is unknown or a value is not allowed for the parameter of this name.
    """

    def numbers(values: Sequence[Any]) -> tuple[float, ...]:
        try:
            return tuple(parameter.check(name, value) for value in values)
        except ValueError as error:
            raise ValueError(str(error).removeprefix(f"{name}: ")) from None

    def bounds(low: Any, high: Any, *, each_layer: bool = False) -> Dimension:
        low, high = numbers((low, high))
        if not -math.inf < low < high < math.inf:
            raise ValueError(
                f"expected a range [low, high] of finite numbers with low < high, got {[low, high]}"
            )
        if parameter.whole:
            if high - low > MOST_WHOLE:
                raise ValueError(f"expected a range of at most {MOST_WHOLE} whole numbers, got {[low, high]}")
            return OneOf(numbers(range(int(low), int(high) + 1)))
        return Range(low, high, each_layer, logarithmic=parameter.logarithmic and low > 0)

    match written:
        case {"layers": _} | {"each_layer": _} if not parameter.by_layer:
            raise ValueError(f"expected one dimension for all layers, got {written!r}")
        case {"each_layer": _} if parameter.whole:
            raise ValueError(
                f"expected {{values: [...]}} or {{layers: [...]}} of whole numbers, got {written!r}"
            )
        case {"values": [_, *_] as values} if len(written) == 1:
            return OneOf(numbers(values))
        case {"layers": [_, *_] as values} if len(written) == 1:
            return OneOf((numbers(values),))
        case {"each_layer": [low, high]} if len(written) == 1:
            return bounds(low, high, each_layer=True)
        case [low, high]:
            return bounds(low, high)
        case bool() | list() | dict() | None:
            raise ValueError(f"expected {SYNTAX}, got {shown(written)}")
        case _:
            return OneOf(numbers([written]))


def parse_space(parameters: Mapping[str, Parameter], written: Mapping[str, Any]) -> Space:
    """Read a whole space: for each parameter one dimension for all roles, or dimensions by role.

    The encoder's dimensions come first, so that a grid changes them last: what the encoder computes serves
    all settings that share its values.

    Raises:
        ValueError: as `parse_dimension`, and if there is no such parameter or role.
    """
    space: dict[tuple[str, str | None], Dimension] = {}
    for name, dimensions in written.items():
        if name not in parameters:
            raise ValueError(expected_one_of(parameters, name))
        by_role = _by_role(dimensions)
        if not by_role:
            raise ValueError(f"{name}: expected {SYNTAX}, or one under some role, got nothing")
        for role, dimension in by_role.items():
            if (role not in ROLES and by_role is dimensions) or role not in (None, *ROLES):
                raise ValueError(f"{name}: {expected_one_of(ROLES, role)}")
            if role is not None and not parameters[name].by_role:
                raise ValueError(f"{name}: expected one dimension for the whole model, got {role}'s")
            try:
                space[name, role] = parse_dimension(name, parameters[name], dimension)
            except ValueError as error:
                raise ValueError(f"{key_of(name, role)}: {error}") from None
    order: list[str | None] = [None, *ROLES]
    return dict(sorted(space.items(), key=lambda item: (order.index(item[0][1]), item[0][0])))


def check_space(space: Space, layers: Mapping[str, int], where: str = "sweep.space") -> None:
    """Check that a model has what the space names.

    Args:
        space: the dimensions.
        layers: number of layers by role of the model.
        where: the space's key in the experiment file.

    Raises:
        UserError: if the model has not a role, or has another number of layers in it.
    """
    for (parameter, role), dimension in space.items():
        key = f"{where}.{key_of(parameter, role)}"
        if role is not None and role not in layers:
            raise UserError(f"{key}: expected a role of this model ({', '.join(layers)}), got {role!r}")
        values = dimension.values if isinstance(dimension, OneOf) else ()
        by_layer = any(isinstance(value, tuple) for value in values) or (
            isinstance(dimension, Range) and dimension.each_layer
        )
        if by_layer and role is None:
            raise UserError(f"{key}: expected values by layer under a role ({', '.join(layers)})")
        for value in values:
            if isinstance(value, tuple) and role is not None and len(value) != layers[role]:
                raise UserError(f"{key}: expected {layers[role]} values, one a layer, got {len(value)}")


def draw(space: Space, layers: Mapping[str, int], generator: np.random.Generator) -> dict[str, Any]:
    """Return the values of a setting, drawn from every dimension independently."""
    return setting_values(
        space,
        [dimension.draw(generator, layers[role] if role else 1) for (_, role), dimension in space.items()],
    )


def product(space: Space) -> Iterator[dict[str, Any]]:
    """Yield the values of every combination of a space of `OneOf`, the last dimension varying fastest."""
    choices = [dimension.values for dimension in space.values() if isinstance(dimension, OneOf)]
    return (setting_values(space, values) for values in itertools.product(*choices))


def setting_values(space: Space, values: Sequence[Value]) -> dict[str, Any]:
    """Return one value a dimension as a method's setting reads them."""
    written: dict[str, Any] = {}
    for (parameter, role), value in zip(space, values, strict=True):
        if role is None:
            written[parameter] = value
        else:
            written.setdefault(parameter, {})[role] = value
    return written


def _by_role(written: Any) -> Mapping[str | None, Any]:
    """Return dimensions by role: the one dimension, or what a mapping of roles writes."""
    if isinstance(written, Mapping) and not written.keys() & {"values", "layers", "each_layer"}:
        return written
    return {None: written}


def key_of(parameter: str, role: str | None) -> str:
    """Return the key of a dimension in a space."""
    return f"{parameter}.{role}" if role else parameter
