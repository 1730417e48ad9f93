"""Conversion in place: `convert_`, `set_settings_` and `revert_`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from transformers import PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from nvreg.attention.moments import HeadMoments
from nvreg.attention.settings import PARAMETERS, Settings, SiteSettings
from nvreg.models.adapter import is_eager
from nvreg.models.conversion import Conversion, SitePrior, conversion_of
from nvreg.models.dispatching import dispatching_modules
from nvreg.models.heads import DispatchedForward, HeadState
from nvreg.models.inputs import NVState
from nvreg.models.module import NVForward, check_forward, convert_module_, revert_module_
from nvreg.models.registry import attention_modules
from nvreg.models.restated import warn_of_changes
from nvreg.models.site import Site, SiteState, Space, layers_of


def is_converted(model: PreTrainedModel) -> bool:
    """Whether `convert_` was called on the model and `revert_` was not."""
    return conversion_of(model) is not None


def convert_(
    model: PreTrainedModel,
    prior: SitePrior,
    settings: Settings | None = None,
    *,
    interpolates: bool = True,
) -> PreTrainedModel:
    """Turn every attention module of a model into its NV form, in place, in the space of the prior.

    Weights are neither changed nor copied: each module becomes an instance of a subclass of its own class
    that scales what the key and value projections read (docs/method.md, section 4), or, in head space, has
    another attention function called (section 9). What follows from the
    weights follows them: when they are loaded or moved, when adapters (LoRA) come, change, merge or go, and
    when they are written to in place. Compiled code alone notices no sooner than `set_settings_`, and a write
    through ``.data``, which leaves no trace (peft's hot-swapping does so), is noticed then too.

    It warns, once, where the installed Transformers has other attention than any that conversion was checked
    on (see `nvreg.models.restated`).

    Args:
        model: an unconverted model in evaluation mode.
        prior: the prior of this model's sites.
        settings: by default identity.
        interpolates: as in `nvreg.attention.fused.prepare` and `prepare_heads` of `prepared_heads` beside it:
            False is an ablation of the method.

    Returns:
        The same model.

    Raises:
        UserError: if the architecture is not supported, the prior is another model's, or the model runs
            another attention implementation than sdpa or eager, or another forward than its classes'.
        ValueError: if the settings do not fit the model, or it is converted already.
    """
    settings = settings or Settings.identity()
    modules = _convertible_modules(model, prior.space)
    settings.check(layers_of(modules))
    prior.check(model, modules)
    states: dict[Site, SiteState] = {}
    for site, (adapter, module) in modules.items():
        moments = prior[site.name]
        if isinstance(moments, HeadMoments):
            states[site] = HeadState(site, module, moments, interpolates=interpolates)
        else:
            states[site] = NVState(site, adapter, moments, interpolates=interpolates)
    return set_settings_(_attach_(model, modules, states, prior), settings)


def attach_(
    model: PreTrainedModel, make: Callable[[Site, Any], SiteState], space: Space = "inputs"
) -> PreTrainedModel:
    """Convert every attention module, in place, to one as ``make`` says.

    Args:
        model: unconverted.
        make: takes a site and its adapter, or in head space its module, to what is beside the module.
        space: the space of the sites.

    Returns:
        The same model.

    Raises:
        UserError, ValueError: as `convert_`.
    """
    modules = _convertible_modules(model, space)
    states = {
        site: make(site, module if space == "heads" else adapter)
        for site, (adapter, module) in modules.items()
    }
    return _attach_(model, modules, states, None)


def _convertible_modules(model: PreTrainedModel, space: Space) -> dict[Site, tuple[Any, Any]]:
    """Return, by site, the adapter, which only input space has, and the module."""
    if is_converted(model):
        raise ValueError(
            "expected an unconverted model; change its settings with set_settings_, or revert_ it first"
        )
    modules: dict[Site, tuple[Any, Any]]
    if space == "heads":
        modules = {site: (None, module) for site, module in dispatching_modules(model).items()}
    else:
        modules = attention_modules(model)
    for site, (_, module) in modules.items():
        config = getattr(module, "config", model.config)  # the halves of a model may each have their own
        is_eager(config)  # or sdpa, or refused
        check_forward(module, site)
    warn_of_changes(
        [sdpa_attention_forward] if space == "heads" else [type(module) for _, module in modules.values()]
    )
    return modules


def _attach_(
    model: PreTrainedModel,
    modules: Mapping[Site, tuple[Any, Any]],
    states: Mapping[Site, SiteState],
    prior: SitePrior | None,
) -> PreTrainedModel:
    runs: dict[Any, list[SiteState]] = {}
    for site, (_, module) in modules.items():
        runs.setdefault(module, []).append(states[site])
    for module, at_runs in runs.items():
        convert_module_(module, at_runs, DispatchedForward if at_runs[0].space == "heads" else NVForward)
    Conversion({site: module for site, (_, module) in modules.items()}, prior).put_on_(model)
    return model


def set_settings_(model: PreTrainedModel, settings: Settings) -> PreTrainedModel:
    """Change the settings of a converted model, in place: exact, from the pretrained weights each time.

    A ``noise_share`` is solved for here, from the prior alone: `current_settings` has the tau_sigma.

    Returns:
        The same model.

    Raises:
        UserError: if a noise share cannot be had.
        ValueError: if the settings do not fit the model, or it is not converted.
    """
    conversion = _conversion(model)
    settings.check(conversion.layers)
    states = conversion.states

    def at(site: Site) -> SiteSettings:
        written = settings.at(site.role, site.layer)
        if share := settings.value("noise_share", site.role, site.layer):
            tau_sigma = states[site].solve_tau_sigma(conversion.sites[site], share)
            return written._replace(tau_sigma=tau_sigma)
        return written

    set_sites_(model, at)
    return model


def set_sites_(model: PreTrainedModel, at: Callable[[Site], Any]) -> None:
    """Change the setting of every site of a converted model, in place, to what ``at`` says."""
    conversion = _conversion(model)
    wanted = {site: at(site) for site in conversion.sites}
    for site, state in conversion.states.items():
        state.settings = wanted[site]
        if not state.is_identity:
            state.refresh(conversion.sites[site], model.dtype)


def current_settings(model: PreTrainedModel) -> Settings:
    """Return the settings of a converted model: a number for a role whose layers agree, a list otherwise.

    Raises:
        ValueError: if the model is not converted.
    """
    found: dict[str, dict[str, Any]] = {name: {} for name in PARAMETERS}
    for site, state in _conversion(model).states.items():
        for name, value in state.settings._asdict().items():
            found[name].setdefault(site.role, []).append(value)
    for by_role in found.values():
        for role, values in by_role.items():
            if len(set(values)) == 1:
                by_role[role] = values[0]
    return Settings(**found)


def revert_(model: PreTrainedModel) -> PreTrainedModel:
    """Undo `convert_`, in place: the very modules and weights that were there before.

    Returns:
        The same model.
    """
    if conversion := conversion_of(model):
        for module in dict.fromkeys(conversion.sites.values()):
            revert_module_(module)
        conversion.take_off_(model)
    return model


def _conversion(model: PreTrainedModel) -> Conversion:
    if (conversion := conversion_of(model)) is None:
        raise ValueError("expected a converted model; call convert_(model, prior, settings) first")
    return conversion
