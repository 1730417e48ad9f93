"""The class of a converted attention module: a subclass of its own class that runs NV attention."""

from __future__ import annotations

import functools
import threading
from types import MethodType
from typing import Any

import torch
from torch import nn
from transformers import Cache

from nvreg.compat import KEPT_FORWARDS
from nvreg.errors import UserError
from nvreg.models.cache import given_cache
from nvreg.models.site import Site, SiteState


class NVForward(nn.Module):
    """First base of every converted module's class: NV attention unless the site is at identity.

    Attributes:
        form: the first base.
        plain_class: the class that the module had before.
        nv_states: what is at its sites: one, or one for every time that a forward pass runs the module.
        nv_runs: which of them runs next, or is running, by thread; the first where nothing is said.
    """

    form: type[NVForward]
    plain_class: type[nn.Module]
    nv_states: list[SiteState]
    nv_runs: dict[int, int]

    @property
    def nv(self) -> Any:
        """What is at the site that runs next, or is running, in this thread."""
        states = self.nv_states
        return states[0] if len(states) == 1 else states[self.nv_runs.get(_thread(), 0)]

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Run the pretrained forward at identity, the state's otherwise.

        Raises:
            RuntimeError: in training mode, for which the method is not defined.
            UserError: under continuous batching, whose cache attends by itself.
        """
        if len(self.nv_states) == 1:
            return self._forward_at(self.nv_states[0], *args, **kwargs)
        run = self.nv_runs.get(_thread(), 0)
        output = self._forward_at(self.nv_states[run], *args, **kwargs)
        self.nv_runs[_thread()] = (run + 1) % len(self.nv_states)
        return output

    def _forward_at(self, state: SiteState, *args: Any, **kwargs: Any) -> Any:
        if state.is_identity:
            return self.own_forward(*args, **kwargs)
        if self.training:
            raise RuntimeError(
                "NV attention is evaluated, not trained: call model.eval() or nvreg.revert_(model)"
            )
        cache = given_cache(kwargs)
        if cache is not None and not isinstance(cache, Cache):
            raise UserError(
                "expected a cache that hands back its keys, got the paged one of continuous batching; "
                "call model.generate"
            )
        return state.forward(self, *args, **kwargs)

    def own_forward(self, *args: Any, **kwargs: Any) -> Any:
        """Run the forward of the class that the module had before."""
        return super().forward(*args, **kwargs)

    def plain_forward(self, *args: Any, **kwargs: Any) -> Any:
        """Run the pretrained forward, whatever the setting."""
        return self.own_forward(*args, **kwargs)

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        if isinstance(value, nn.Module):  # adapters come, merge into the weights, and go
            self._unsettle()

    def _apply(self, *args: Any, **kwargs: Any) -> NVForward:  # to another device or dtype
        self._unsettle()
        return super()._apply(*args, **kwargs)

    def _unsettle(self) -> None:
        for state in self.nv_states:
            state.unsettle()

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        self._unsettle()
        super()._load_from_state_dict(*args, **kwargs)

    def __reduce_ex__(self, _protocol: Any) -> tuple[Any, ...]:  # the class has no name to be found by
        return _unpickled, (self.form, self.plain_class), self.__dict__

    def extra_repr(self) -> str:
        """Name the setting in ``print(model)``."""
        settings = [state.settings._asdict().items() for state in self.nv_states]
        return "; ".join(", ".join(f"{name}={value:g}" for name, value in each) for each in settings)


def _unpickled(form: Any, plain: Any) -> nn.Module:
    converted: type[nn.Module] = _converted_class(form, plain)
    return converted.__new__(converted)


@functools.cache
def _converted_class(form: Any, plain: Any) -> Any:
    """Return a subclass of an attention class: hooks that go by class still match."""
    namespace = {"__module__": plain.__module__, "form": form, "plain_class": plain}
    return type(f"NV{plain.__name__}", (form, plain), namespace)


def convert_module_(module: Any, states: list[SiteState], form: Any) -> None:
    """Make an attention module a converted one of some form, in place, with a state for each of its runs."""
    module.nv_states, module.nv_runs = states, {}
    plain: Any = type(module)
    _change_class_(module, _converted_class(form, plain))


def revert_module_(module: Any) -> None:
    """Give a converted module its own class back, in place."""
    _change_class_(module, module.plain_class)
    del module.nv_states, module.nv_runs


def restart_(body: nn.Module, args: tuple[Any, ...]) -> None:
    """Have modules that run several times begin with their first run; a hook before a body's forward.

    The last forward pass may have ended with an error.
    """
    for module in body.modules():
        if isinstance(module, NVForward):
            module.nv_runs.pop(_thread(), None)


def _thread() -> int:
    """Return the number of this thread; compiled code, which cannot ask, has one."""
    return 0 if torch.compiler.is_compiling() else threading.get_ident()


def check_forward(module: Any, site: Site) -> None:
    """Raise a UserError if a module runs another forward than its class's."""
    kept = [vars(module)[name] for name in KEPT_FORWARDS if name in vars(module)]
    if kept and not _is_forward_of(kept[0], module):
        raise UserError(
            f"expected the attention at {site.name!r} to run the forward of {type(module).__name__}, found "
            "another on the module itself; convert the model without what put it there"
        )


def _change_class_(module: Any, new: type[nn.Module]) -> None:
    """Change a module's class, and the forward of the old one where accelerate keeps it on the module."""
    for name in KEPT_FORWARDS:
        if _is_forward_of(vars(module).get(name), module):
            vars(module)[name] = MethodType(new.forward, module)
    module.__class__ = new


def _is_forward_of(function: Any, module: Any) -> bool:
    return function == MethodType(type(module).forward, module)
