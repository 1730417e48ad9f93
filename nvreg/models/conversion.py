"""What a converted model carries: its sites, and the prior."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol

from torch import nn
from transformers import PreTrainedModel

from nvreg import compat
from nvreg.attention.moments import HeadMoments, Moments
from nvreg.models.module import restart_
from nvreg.models.site import Observer, Site, Space, layers_of

_NAME = "nv_conversion"
"""The name of the attribute of a body that is its conversion."""


class SitePrior(Protocol):
    """What conversion asks of a prior: `nvreg.Prior` is one."""

    @property
    def fingerprint(self) -> str:
        """A digest of the moments."""

    @property
    def space(self) -> Space:
        """Where its vectors are."""

    def __getitem__(self, site: str, /) -> Moments | HeadMoments:
        """Return the moments of a site."""

    def check(self, model: PreTrainedModel, sites: Iterable[Site]) -> None:
        """Raise a UserError unless the prior is this model's, which has these sites."""


class Conversion:
    """A model's attention in another form.

    It is an attribute of the model's body: all heads of the body share it, and a copy of the model has its
    own. Modules and sites do not know it, so a layer can be copied without the rest of the model.

    Attributes:
        sites: the converted module of every site, in forward order.
        prior: where the sites' moments are from; None for a form that has none.
    """

    def __init__(self, sites: Mapping[Site, Any], prior: SitePrior | None) -> None:
        """Keep what conversion found."""
        self.sites = sites
        self.prior = prior
        self._hook: int | None = None

    @property
    def states(self) -> dict[Site, Any]:
        """What is beside the module of every site: a `SiteState`."""
        return {
            site: next(state for state in module.nv_states if state.site == site)
            for site, module in self.sites.items()
        }

    @property
    def space(self) -> Space:
        """Where the sites have their vectors."""
        return next(iter(self.sites.values())).nv.space

    @property
    def layers(self) -> dict[str, int]:
        """How many layers each role has, for the roles that the model has."""
        return layers_of(self.sites)

    @contextmanager
    def observed(self, observer: Observer) -> Iterator[None]:
        """Have every site call ``observer`` inside the block."""
        states = self.states.values()
        for state in states:
            state.observer = observer
        try:
            yield
        finally:
            for state in states:
                state.observer = None

    def put_on_(self, model: PreTrainedModel) -> None:
        """Make it the model's conversion."""
        setattr(model.base_model, _NAME, self)
        if any(len(module.nv_states) > 1 for module in self.sites.values()):
            self._hook = model.base_model.register_forward_pre_hook(restart_).id

    def take_off_(self, model: nn.Module) -> None:
        """Undo `put_on_`."""
        for module in model.modules():
            if vars(module).pop(_NAME, None) is not None and self._hook is not None:
                compat.remove_pre_hook_(module, self._hook)


def conversion_of(model: nn.Module) -> Conversion | None:
    """Return the conversion of a model, or of the one that it wraps; None if it is not converted."""
    found = (vars(module).get(_NAME) for module in model.modules())
    return next((conversion for conversion in found if conversion is not None), None)
