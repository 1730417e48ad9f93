"""Values of a method's parameters, by role of attention and by layer."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from numbers import Real
from typing import Any, ClassVar, NamedTuple, Self

from nvreg.errors import expected_one_of, shown

ROLES = ("encoder", "cross", "decoder")
"""What an attention site is for: encoder self-attention, cross-attention, decoder self-attention."""

Value = float | tuple[float, ...]
"""One value for every layer of a role, or one a layer."""


class Parameter(NamedTuple):
    """What a parameter may be, and the value at which it does nothing.

    ``logarithmic`` parameters are drawn log-uniformly from ranges that begin above 0. One that is not
    ``by_role`` has one value for the whole model, one that is not ``by_layer`` one for all layers of a role.
    A range of one that is ``whole`` has its whole numbers.
    """

    identity: float
    allowed: str
    is_allowed: Callable[[float], bool]
    logarithmic: bool = False
    by_role: bool = True
    by_layer: bool = True
    whole: bool = False

    def check(self, name: str, value: Any) -> float:
        """Return ``value`` as a float.

        Raises:
            ValueError: if it is not a number that is allowed; ``name`` says of what.
        """
        if value in ("inf", "+inf", ".inf", "-inf", "-.inf"):
            value = math.copysign(math.inf, -1 if value.startswith("-") else 1)
        try:
            if not isinstance(value, bool) and isinstance(value, Real) and self.is_allowed(float(value)):
                return float(value)
        except OverflowError:  # a whole number may be larger than any other
            pass
        raise ValueError(f"{name}: expected {self.allowed}, got {shown(value)}")


class Setting:
    """A value for each parameter of a method; what is not named is at identity.

    Each value is a number for all roles, or a mapping from role (``encoder``, ``cross``, ``decoder``) to a
    number or to a list with one value a layer. Two settings are equal if they write the same values.

    Raises:
        ValueError: if a value is not allowed.
    """

    parameters: ClassVar[Mapping[str, Parameter]]

    def __init__(self, **values: Any) -> None:
        self._values = {
            name: _normalise(name, rule, values.get(name)) for name, rule in self.parameters.items()
        }

    @classmethod
    def identity(cls) -> Self:
        """Return the setting under which a model is exactly the pretrained one."""
        return cls()

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Build a setting from what `to_dict` returns, or from an experiment file.

        Raises:
            ValueError: for an unknown parameter or a value that is not allowed.
        """
        for name in data:
            if name not in cls.parameters:
                raise ValueError(expected_one_of(cls.parameters, name))
        return cls(**data)

    @property
    def is_identity(self) -> bool:
        """Whether every site is at identity."""
        return not self.to_dict()

    def values(self, parameter: str, role: str | None) -> Value:
        """Return the value of a parameter for every layer of ``role``, or the values, one a layer."""
        value: Any = self._values[parameter]
        return value.get(role, self.parameters[parameter].identity) if isinstance(value, Mapping) else value

    def value(self, parameter: str, role: str | None = None, layer: int = 0) -> float:
        """Return the value of a parameter in layer ``layer`` (from 0) of ``role``.

        A role is needed where the parameter may have values by role.
        """
        values = self.values(parameter, role)
        return values[layer] if isinstance(values, tuple) else values

    def of_role(self, role: str) -> dict[str, Any]:
        """Return, as JSON-safe data, what differs from identity in a role."""
        values = {name: self.values(name, role) for name in self.parameters}
        return {
            name: _plain(value) for name, value in values.items() if value != self.parameters[name].identity
        }

    def check(self, layers: Mapping[str, int]) -> None:
        """Check the setting against the number of layers of each role of a model.

        Raises:
            ValueError: if it names a role the model has not, or lists another number of layers.
        """
        for name, value in self._values.items():
            for role, by_layer in value.items() if isinstance(value, Mapping) else ():
                if role not in layers:
                    raise ValueError(
                        f"{name}: expected roles of this model ({', '.join(layers)}), got {role!r}"
                    )
                if isinstance(by_layer, tuple) and len(by_layer) != layers[role]:
                    raise ValueError(
                        f"{name}.{role}: expected {layers[role]} values, one a layer, got {len(by_layer)}"
                    )

    def to_dict(self) -> dict[str, Any]:
        """Return the same as JSON-safe data: identity values left out, infinities as text."""
        return {
            name: _plain(value)
            for name, value in self._values.items()
            if value not in ({}, self.parameters[name].identity)
        }

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Setting) and type(self) is type(other) and self.to_dict() == other.to_dict()

    def __hash__(self) -> int:
        return hash(json.dumps(self.to_dict(), sort_keys=True))

    def __repr__(self) -> str:
        return f"{type(self).__name__}(**{self.to_dict()})"

    def __str__(self) -> str:
        return "; ".join(f"{name} {_short(value)}" for name, value in self.to_dict().items()) or "identity"


def read_value(name: str, text: str) -> float | dict[str, float]:
    """Read a number, or numbers by role as in ``encoder=-3,cross=inf``; semicolons may stand for commas.

    Raises:
        ValueError: if it is neither; ``name`` says of what.
    """
    try:
        if "=" not in text:
            return float(text)
        parts = [part.partition("=") for part in text.replace(";", ",").split(",")]
        by_role = {role.strip(): float(value) for role, _, value in parts}
        if len(by_role) < len(parts):
            raise ValueError("a role comes twice")
        return by_role
    except ValueError as error:
        raise ValueError(
            f"{name}: expected a number, or ROLE=NUMBER of each role once, got {text!r}"
        ) from error


def _normalise(name: str, rule: Parameter, value: Any) -> float | dict[str, Value]:
    """Return a float, or a mapping of role to float or tuple, without identity values."""
    if value is None:
        return rule.identity
    if not isinstance(value, Mapping):
        return rule.check(name, value)
    if not rule.by_role:
        raise ValueError(f"{name}: expected one number for the whole model, got values by role")
    for role in value:
        if role not in ROLES:
            raise ValueError(f"{name}: {expected_one_of(ROLES, role)}")
    by_role: dict[str, Value] = {}
    for role, given in sorted(value.items(), key=lambda item: ROLES.index(item[0])):
        if isinstance(given, Sequence) and not isinstance(given, str):
            if not rule.by_layer:
                raise ValueError(f"{name}: expected one number for all layers of {role}, got values by layer")
            layers = tuple(rule.check(name, each) for each in given)
            if any(each != rule.identity for each in layers):
                by_role[role] = layers
        elif (number := rule.check(name, given)) != rule.identity:
            by_role[role] = number
    return by_role


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {role: _plain(each) for role, each in value.items()}
    if isinstance(value, tuple):
        return [_plain(each) for each in value]
    return str(value) if math.isinf(value) else value


def _short(value: Any) -> str:
    if isinstance(value, dict):
        return " ".join(f"{role}={_short(each)}" for role, each in value.items())
    if isinstance(value, list):
        return f"[{', '.join(map(_short, value))}]"
    return value if isinstance(value, str) else f"{value:.4g}"
