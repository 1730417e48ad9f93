"""How much a setting changes what attention returns, in one number for any method."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from nvreg.memory import over_rows
from nvreg.methods import Method
from nvreg.models.registry import site_modules
from nvreg.models.site import Runs, Site
from nvreg.models.teacher_forcing import (
    in_float64,
    numbers_in,
    on_device,
    query_masks,
    real_tokens,
    run_body,
)
from nvreg.parameters import Setting


def attention_change(
    model: PreTrainedModel, method: Method, setting: Setting, batches: Iterable[Mapping[str, Tensor]]
) -> dict[Site, float]:
    """Measure how far each site's output moves, for the inputs that it has in the pretrained model.

    Args:
        model: in evaluation mode, with the method attached, at whatever setting; left at identity.
        method: which.
        setting: the method's.
        batches: teacher-forced, as `estimate_prior` takes them.

    Returns:
        By site, the norm of the difference over the norm of the pretrained output, both over all non-padded
        queries: 0 at identity.
    """
    modules = site_modules(model)
    differences, norms = dict.fromkeys(modules, 0.0), dict.fromkeys(modules, 0.0)

    def run(batch: Mapping[str, Tensor]) -> None:
        tokens = real_tokens(model, query_masks(model, batch))
        method.set_(model, setting.identity())
        calls = _calls(model, modules, on_device(model, batch))
        method.set_(model, setting)
        squares = []
        for site, (args, kwargs, pretrained) in calls.items():
            before, changed = (
                in_float64(tokens[site.role].of(each))
                for each in (pretrained, modules[site](*args, **kwargs)[0])
            )
            squares += [(changed - before).square().sum(), before.square().sum()]
        numbers = numbers_in(squares)  # the batch has fitted in memory to the end
        for site, difference, norm in zip(calls, numbers[::2], numbers[1::2], strict=True):
            differences[site] += difference
            norms[site] += norm

    with torch.no_grad():
        for batch in batches:
            over_rows(batch, run)
    method.set_(model, setting.identity())
    return {site: (differences[site] / norms[site]) ** 0.5 for site in modules if norms[site]}


def _calls(
    model: PreTrainedModel, modules: Mapping[Site, Any], batch: Mapping[str, Tensor]
) -> dict[Site, tuple[tuple[Any, ...], dict[str, Any], Tensor]]:
    """Run the model; return each site's arguments and output."""
    calls, runs = {}, Runs(modules)

    def note(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        calls[runs.next_site(module)] = (args, kwargs, output[0])

    hooks = [
        module.register_forward_hook(note, with_kwargs=True) for module in dict.fromkeys(modules.values())
    ]
    try:
        run_body(model, batch)
    finally:
        for hook in hooks:
            hook.remove()
    return calls
