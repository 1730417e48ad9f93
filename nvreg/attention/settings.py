"""The post-training parameters of NV attention, by role and by layer (docs/method.md, section 3)."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from numbers import Real
from typing import Any, NamedTuple

ROLES = ("encoder", "cross", "decoder")
"""What an attention site is for: encoder self-attention, cross-attention, decoder self-attention."""

Value = float | tuple[float, ...]
"""One value for every layer of a role, or one a layer."""


class Parameter(NamedTuple):
    """What a parameter may be, and the value at which it does nothing."""

    identity: float
    allowed: str
    is_allowed: Callable[[float], bool]


PARAMETERS: Mapping[str, Parameter] = {
    "tau_alpha": Parameter(math.inf, "any real number, or inf", lambda v: v > -math.inf),
    "tau_sigma": Parameter(0.0, "a finite number >= 0", lambda v: 0 <= v < math.inf),
    "tau_mu": Parameter(1.0, "a number from 0 to 1", lambda v: 0 <= v <= 1),
}


def check_value(parameter: str, value: Any) -> float:
    """Return ``value`` as a float.

    Raises:
        ValueError: if it is not a number that docs/method.md, section 3, allows for ``parameter``.
    """
    rule = PARAMETERS[parameter]
    if value in ("inf", "+inf", ".inf"):
        value = math.inf
    if isinstance(value, bool) or not isinstance(value, Real) or not rule.is_allowed(float(value)):
        raise ValueError(f"{parameter}: expected {rule.allowed}, got {value!r}")
    return float(value)


class SiteSettings(NamedTuple):
    """The parameters of one attention site (docs/method.md, section 3)."""

    tau_alpha: float = math.inf
    tau_sigma: float = 0.0
    tau_mu: float = 1.0

    @property
    def is_identity(self) -> bool:
        """Whether the site is exactly the pretrained one."""
        return self == SiteSettings()

    @property
    def has_prior(self) -> bool:
        """Whether the prior component takes part: at ``tau_alpha = inf`` its weight is 0."""
        return self.tau_alpha < math.inf

    @property
    def changes_tokens(self) -> bool:
        """Whether token components differ from the pretrained vectors."""
        return self.tau_sigma > 0 or self.tau_mu < 1


@dataclass(frozen=True, eq=False)
class Settings:
    """What to do at every site of a model; what is not named is at identity.

    Each parameter is a number for all roles, or a mapping from role (``encoder``, ``cross``,
    ``decoder``) to a number or to a list with one value a layer.

    Raises:
        ValueError: if a value is NaN, -inf, or outside what docs/method.md, section 3, allows.

    Example:
        >>> print(Settings(tau_alpha={"encoder": -3, "decoder": [2, "inf"]}, tau_sigma=0.1))
        tau_alpha encoder=-3 decoder=[2, inf]; tau_sigma 0.1
    """

    tau_alpha: Any = None
    tau_sigma: Any = None
    tau_mu: Any = None

    def __post_init__(self) -> None:
        """Normalise to a float, or to a mapping of role to float or tuple, without identity values."""
        for field in fields(self):
            object.__setattr__(self, field.name, _normalise(field.name, getattr(self, field.name)))

    @classmethod
    def identity(cls) -> Settings:
        """Return the settings under which a model is exactly the pretrained one."""
        return cls()

    @property
    def is_identity(self) -> bool:
        """Whether every site is at identity."""
        return not self.to_dict()

    def at(self, role: str, layer: int) -> SiteSettings:
        """Return the parameters of layer ``layer`` (from 0) of ``role``."""
        return SiteSettings(*(self._value(name, role, layer) for name in PARAMETERS))

    def _value(self, name: str, role: str, layer: int) -> float:
        value = getattr(self, name)
        if isinstance(value, Mapping):
            value = value.get(role, PARAMETERS[name].identity)
        return value[layer] if isinstance(value, tuple) else value

    def check(self, layers: Mapping[str, int]) -> None:
        """Check the settings against the number of layers of each role of a model.

        Raises:
            ValueError: if they name a role the model has not, or list another number of layers.
        """
        for name in PARAMETERS:
            value = getattr(self, name)
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
        """Return the same as JSON-safe data: identity values left out, infinity as ``"inf"``."""
        return {
            name: _plain(getattr(self, name))
            for name in PARAMETERS
            if getattr(self, name) not in _NOTHING[name]
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Settings:
        """Build settings from what `to_dict` returns, or from an experiment file.

        Raises:
            ValueError: for an unknown parameter or a value that is not allowed.
        """
        unknown = set(data) - set(PARAMETERS)
        if unknown:
            raise ValueError(f"expected parameters {', '.join(PARAMETERS)}, got {', '.join(sorted(unknown))}")
        return cls(**data)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Settings) and self.to_dict() == other.to_dict()

    def __hash__(self) -> int:
        return hash(json.dumps(self.to_dict(), sort_keys=True))

    def __str__(self) -> str:
        return "; ".join(f"{name} {_short(value)}" for name, value in self.to_dict().items()) or "identity"


_NOTHING: Mapping[str, tuple[Any, ...]] = {name: ({}, rule.identity) for name, rule in PARAMETERS.items()}


def _normalise(name: str, value: Any) -> float | dict[str, Value]:
    identity = PARAMETERS[name].identity
    if value is None:
        return identity
    if not isinstance(value, Mapping):
        return check_value(name, value)
    if unknown := set(value) - set(ROLES):
        raise ValueError(
            f"{name}: expected roles among {', '.join(ROLES)}, got {', '.join(map(str, unknown))}"
        )
    by_role: dict[str, Value] = {}
    for role, given in sorted(value.items(), key=lambda item: ROLES.index(item[0])):
        if isinstance(given, Sequence) and not isinstance(given, str):
            layers = tuple(check_value(f"{name}", each) for each in given)
            if any(each != identity for each in layers):
                by_role[role] = layers
        elif (number := check_value(name, given)) != identity:
            by_role[role] = number
    return by_role


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {role: _plain(each) for role, each in value.items()}
    if isinstance(value, tuple):
        return [_plain(each) for each in value]
    return "inf" if value == math.inf else value


def _short(value: Any) -> str:
    if isinstance(value, dict):
        return " ".join(f"{role}={_short(each)}" for role, each in value.items())
    if isinstance(value, list):
        return f"[{', '.join(map(_short, value))}]"
    return value if isinstance(value, str) else f"{value:.4g}"
