"""Conversion in place: `convert_`, `set_settings_` and `revert_`."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from types import MethodType
from typing import TYPE_CHECKING, Any

from transformers import PreTrainedModel

from nvreg.attention.settings import PARAMETERS, Settings
from nvreg.errors import UserError
from nvreg.models.adapter import Adapter, is_eager
from nvreg.models.registry import attention_modules, layers_by_role
from nvreg.models.state import NVForward, NVState, Site, SiteState, converted_class

if TYPE_CHECKING:
    from nvreg.prior.artefact import Prior


def is_converted(model: PreTrainedModel) -> bool:
    """Whether `convert_` was called on the model and `revert_` was not."""
    return any(isinstance(module, NVForward) for module in model.modules())


def convert_(model: PreTrainedModel, prior: Prior, settings: Settings | None = None) -> PreTrainedModel:
    """Turn every attention module of a model into its NV form, in place.

    Weights are neither changed nor copied: each module becomes an instance of a subclass of its own class
    that scales what the key and value projections read (docs/method.md, section 4). What follows from the
    weights follows them: when they are loaded or moved, when adapters (LoRA) come, change, merge or go, and
    when they are written to in place. Compiled code alone notices no sooner than `set_settings_`, and a write
    through ``.data``, which leaves no trace, is noticed then too.

    Args:
        model: an unconverted model in evaluation mode.
        prior: the prior of this model's sites.
        settings: by default identity.

    Returns:
        The same model.

    Raises:
        UserError: if the architecture is not supported, the prior is another model's, or the model runs
            another attention implementation than sdpa or eager, or another forward than its classes'.
        ValueError: if the settings do not fit the model, or it is converted already.
    """
    settings = settings or Settings.identity()
    settings.check(layers_by_role(model))
    prior.check(model)
    attach_(model, partial(NVState, prior=prior))
    return set_settings_(model, settings)


def attach_(model: PreTrainedModel, make: Callable[[Site, Adapter], SiteState]) -> None:
    """Convert every attention module, in place, to one that is at identity as ``make`` says.

    Raises:
        UserError, ValueError: as `convert_`.
    """
    if is_converted(model):
        raise ValueError(
            "expected an unconverted model; change its settings with set_settings_, or revert_ it first"
        )
    modules = attention_modules(model)
    for site, (_, module) in modules.items():
        is_eager(module.config)  # or sdpa, or refused; the halves of a model may each have their own
        _check_forward(module, site)
    for site, (adapter, module) in modules.items():
        module.nv = make(site, adapter)
        _change_class_(module, converted_class(module.__class__))


def _check_forward(module: Any, site: Site) -> None:
    """Raise a UserError if a module runs another forward than its class's."""
    kept = [vars(module)[name] for name in _KEPT_FORWARDS if name in vars(module)]
    if kept and not _is_forward_of(kept[0], module):
        raise UserError(
            f"expected the attention at {site.name!r} to run the forward of {type(module).__name__}, found "
            "another on the module itself; convert the model without what put it there"
        )


def _change_class_(module: Any, new: type) -> None:
    """Change a module's class, and the forward of the old one where accelerate keeps it on the module."""
    for name in _KEPT_FORWARDS:
        if _is_forward_of(vars(module).get(name), module):
            vars(module)[name] = MethodType(new.forward, module)  # type: ignore[attr-defined]
    module.__class__ = new


def _is_forward_of(function: Any, module: Any) -> bool:
    return function == MethodType(type(module).forward, module)


_KEPT_FORWARDS = ("_old_forward", "forward")
"""Where accelerate keeps a module's own forward: while a hook wraps it, and after the hook is gone."""


def set_settings_(model: PreTrainedModel, settings: Settings) -> PreTrainedModel:
    """Change the settings of a converted model, in place: exact, from the pretrained weights each time.

    Returns:
        The same model.

    Raises:
        ValueError: if the settings do not fit the model, or it is not converted.
    """
    if not is_converted(model):
        raise ValueError("expected a converted model; call convert_(model, prior, settings) first")
    settings.check(layers_by_role(model))
    set_sites_(model, lambda site: settings.at(site.role, site.layer))
    return model


def set_sites_(model: PreTrainedModel, at: Callable[[Site], Any]) -> None:
    """Change the setting of every site, in place, to what ``at`` says."""
    for site, (_, module) in attention_modules(model).items():
        module.nv.settings = at(site)
        if not module.nv.is_identity:
            module.nv.refresh(module, model.dtype)


def revert_(model: PreTrainedModel) -> PreTrainedModel:
    """Undo `convert_`, in place: the very modules and weights that were there before.

    Returns:
        The same model.
    """
    for module in model.modules():
        if isinstance(module, NVForward):
            _change_class_(module, type(module).__mro__[2])
            del module.nv
    return model


def current_settings(model: PreTrainedModel) -> Settings:
    """Return the settings of a converted model: a number for a role whose layers agree, a list otherwise."""
    found: dict[str, dict[str, Any]] = {name: {} for name in PARAMETERS}
    for site, (_, module) in attention_modules(model).items():
        for name, value in module.nv.settings._asdict().items():
            found[name].setdefault(site.role, []).append(value)
    for by_role in found.values():
        for role, values in by_role.items():
            if len(set(values)) == 1:
                by_role[role] = values[0]
    return Settings(**found)
