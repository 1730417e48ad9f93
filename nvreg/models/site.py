"""A site of attention, and what is beside a module that is converted."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar, Literal, NamedTuple

import torch
from torch import Tensor, nn

from nvreg.parameters import ROLES

Space = Literal["inputs", "heads"]
"""Where NV attention has its vectors: what keys and values are projected from, or what a head is given."""


class Site(NamedTuple):
    """One attention module of a model, or one of the runs of a module that a forward pass runs several times.

    Attributes:
        name: module path relative to ``model.base_model``: the same under every head. Behind it, of a module
            that runs several times, is which run it is, from 0: ``encoder.layer#2``.
        role: ``encoder``, ``cross`` or ``decoder``.
        layer: index from 0 within the role.
        width: d, the number of coordinates that keys and values are projected from; 0 in head space, where a
            prior has the widths.
    """

    name: str
    role: str
    layer: int
    width: int

    @property
    def path(self) -> str:
        """Path of the module relative to ``model.base_model``."""
        return self.name.partition("#")[0]


class Runs:
    """Tells, as a module runs again and again, at which of its sites it is.

    Args:
        sites: modules by site, in forward order.
    """

    def __init__(self, sites: Mapping[Site, Any]) -> None:
        self._of_module: dict[Any, list[Site]] = {}
        for site, module in sites.items():
            self._of_module.setdefault(module, []).append(site)
        self.restart()

    def restart(self) -> None:
        """Have every module begin with its first run."""
        self._count = dict.fromkeys(self._of_module, 0)

    def next_site(self, module: Any) -> Site:
        """Return the site at which a module runs next, and count the run."""
        sites = self._of_module[module]
        self._count[module] += 1
        return sites[(self._count[module] - 1) % len(sites)]


def layers_of(sites: Iterable[Site]) -> dict[str, int]:
    """Return how many layers each role has, for the roles that have sites."""
    roles = [site.role for site in sites]
    return {role: roles.count(role) for role in ROLES if role in roles}


Observer = Callable[[Site, Tensor | None, float], None]
"""Called at every forward with the site, ``A_m0`` of shape (batch, heads, queries), and the token share."""


Solver = Callable[[Site, Tensor], Tensor]
"""Called at every forward with the site and ``g_m`` of shape (batch, heads, queries); returns the shift t."""


class SiteState(ABC):
    """What is beside a converted module; the pretrained weights stay where they are, untouched.

    Attributes:
        setting_type: type of the site's settings, a named tuple whose defaults are the identity.
        space: where the site has its vectors.
        site: the module's.
        observer: sees every forward that is not at identity.
        solver: finds the prior's weight at every forward where there is a prior.
        is_identity: whether the module runs its pretrained forward.
    """

    setting_type: ClassVar[type[Any]]
    space: ClassVar[Space]

    def __init__(self, site: Site) -> None:
        """Start at identity."""
        self.site = site
        self.settings = self.setting_type()
        self.observer: Observer | None = None
        self.solver: Solver | None = None

    @property
    def settings(self) -> Any:
        """The site's parameters."""
        return self._settings

    @settings.setter
    def settings(self, settings: Any) -> None:
        self._settings = settings
        self.unsettle()
        # Compiled code takes a float never to become infinite.
        self.is_identity = settings == self.setting_type()

    @abstractmethod
    def forward(self, module: Any, *args: Any, **kwargs: Any) -> Any:
        """Do what a module's own forward does, at a setting that is not identity."""

    @abstractmethod
    def unsettle(self) -> None:
        """Have the next forward make everything anew: the weights may be others."""

    @abstractmethod
    def refresh(self, module: nn.Module, dtype: torch.dtype) -> None:
        """Recompute what the setting needs, if it, the weights, their device or ``dtype`` changed."""
