"""What a setting does to the attention of every layer and head."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from itertools import repeat
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn
from transformers import Cache, PreTrainedModel

from nvreg.compat import attention_implementation, set_attention_implementation_
from nvreg.errors import UserError
from nvreg.models.conversion import conversion_of
from nvreg.models.module import NVForward
from nvreg.models.registry import site_modules
from nvreg.models.site import Runs, Site
from nvreg.models.teacher_forcing import in_float64, on_device, query_masks

QUANTITIES = ("prior_weight", "discarded_share", "entropy", "divergence")
"""What `measure_heads` measures, in the order of its rows."""


def measure_heads(model: PreTrainedModel, batches: Iterable[Mapping[str, Tensor]]) -> pd.DataFrame:
    """Measure the attention of every site and head, as means over the non-padded queries of all batches.

    - ``prior_weight``: ``A_m0``;
    - ``discarded_share``: ``1 - tau_mu (1 - A_m0) mean(v_u / b1)``, with the prior weight of the head;
    - ``entropy``: of the weights that the site mixes with, the prior's among them, in nats;
    - ``divergence``: Jensen-Shannon, in nats and so at most ln 2, between these weights and those that the
      pretrained module has for the same inputs, where the prior's is 0.

    A site at identity, or not converted, has the entropy of its pretrained weights, and 0 in all else. In
    float32, entropy and divergence are exact to about 1e-6.

    The model runs eager attention meanwhile, and the weights of a site are let go before the next one runs:
    on a CPU, that takes 1.5 to 3 times a plain forward at up to 1,024 tokens, and more beyond.

    Args:
        model: in evaluation mode, converted or not.
        batches: mappings of tensors that the model accepts, with ``attention_mask`` where there is padding
            and, for an encoder-decoder model, ``labels`` where -100 marks padding.

    Returns:
        A row a quantity, with columns ``role``, ``layer``, ``head``, ``quantity`` and ``value``, sites in
        forward order.

    Raises:
        UserError: if the architecture is not supported, or there is no token to measure.
    """
    modules = site_modules(model)
    conversion = conversion_of(model)
    states = {} if conversion is None else conversion.states
    meters = {
        site: _Meter(site, is_changed=bool(states) and not states[site].is_identity) for site in modules
    }
    with ExitStack() as attached, torch.inference_mode():
        attached.enter_context(_eager_attention(model))
        runs = Runs(modules)
        for module in dict.fromkeys(modules.values()):
            attached.enter_context(_measured(module, lambda module: meters[runs.next_site(module)]))
        if conversion is not None:
            attached.enter_context(
                conversion.observed(lambda site, _, share: meters[site].note_token_share(share))
            )
        for batch in batches:
            batch = on_device(model, batch)
            masks = query_masks(model, batch)
            for meter in meters.values():
                meter.mask = masks[meter.site.role]
            model(**batch)
    return pd.DataFrame([row for meter in meters.values() for row in meter.rows()])


class _Meter:
    """Sums over the real queries that one site has seen, by head and quantity."""

    def __init__(self, site: Site, *, is_changed: bool) -> None:
        self.site = site
        self._is_changed = is_changed
        self.mask: Tensor | None
        self.queries: Tensor | int = 0
        self.sums: Tensor | float = 0.0
        self._token_share = 1.0

    def rows(self) -> Iterator[dict[str, Any]]:
        if not isinstance(self.sums, Tensor) or not self.queries:
            raise UserError(f"expected at least one token that {self.site.name!r} reads, got none")
        for head, values in enumerate((self.sums / self.queries).tolist()):
            for quantity, value in zip(QUANTITIES, values, strict=True):
                yield {
                    "role": self.site.role,
                    "layer": self.site.layer,
                    "head": head,
                    "quantity": quantity,
                    "value": value,
                }

    def note_token_share(self, token_share: float) -> None:
        self._token_share = token_share

    def measure(
        self, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any], output: tuple[Any, ...]
    ) -> tuple[Any, ...]:
        """Add what one forward did; a hook that takes the weights, last in every layout, off its output."""
        *others, weights = output
        pretrained: Iterable[Tensor | None] = repeat(None)
        if self._is_changed:
            pretrained = _pretrained_weights(module, args, kwargs).unbind(1)
        # Head by head: maps of all heads at once would spend most of the time on getting memory.
        by_head = [
            _quantities(*maps, self._token_share) for maps in zip(weights.unbind(1), pretrained, strict=False)
        ]
        measured = torch.stack(by_head)  # (heads, quantities, batch, queries)
        if self.mask is None:
            self.queries = self.queries + measured[0, 0].numel()
        else:
            measured = torch.where(self.mask.to(measured.device), measured, 0.0)
            self.queries = self.queries + self.mask.sum().to(measured.device)
        self.sums = self.sums + in_float64(measured).sum((-2, -1))
        return *others, None


@contextmanager
def _measured(module: Any, meter_of: Callable[[Any], _Meter]) -> Iterator[None]:
    """Have the meter of each run of a module measure it."""

    def measure(module: Any, *call: Any) -> tuple[Any, ...]:
        return meter_of(module).measure(module, *call)

    hooks = [
        module.register_forward_pre_hook(_ask_for_weights, with_kwargs=True),
        module.register_forward_hook(measure, with_kwargs=True),
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


@contextmanager
def _eager_attention(model: PreTrainedModel) -> Iterator[None]:
    """Run the implementation that returns weights; an encoder-decoder's halves may each have their own."""
    parts = [part for part in model.modules() if isinstance(part, PreTrainedModel)]
    before = [attention_implementation(part.config) for part in parts]
    for part in parts:  # model.set_attn_implementation leaves Falcon as it is
        set_attention_implementation_(part.config, "eager")
    try:
        yield
    finally:
        for part, implementation in zip(parts, before, strict=True):
            set_attention_implementation_(part.config, implementation)


def _ask_for_weights(_module: nn.Module, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    return args, {**kwargs, "output_attentions": True}


def _pretrained_weights(module: NVForward, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
    """Return the pretrained weights for the arguments of a module's forward, whose cache is full by now."""
    uncached = {name: None if isinstance(value, Cache) else value for name, value in kwargs.items()}
    return module.plain_forward(*args, **uncached)[-1]


def _quantities(weights: Tensor, pretrained: Tensor | None, token_share: float) -> Tensor:
    """Return the quantities of every query at one head, shape (4, batch, queries).

    Args:
        weights: shape (batch, queries, 1 + keys), the prior first, or (batch, queries, keys) at identity.
        pretrained: shape (batch, queries, keys), or None at identity.
        token_share: mean over input coordinates of ``tau_mu v_u / b1``.
    """
    weights = _wide(weights)
    entropy = _entropy(weights)
    if pretrained is None:
        zero = torch.zeros_like(entropy)
        return torch.stack([zero, zero, entropy, zero])
    pretrained = _wide(pretrained)
    mixture = weights / 2
    mixture[..., 1:].add_(pretrained, alpha=0.5)
    divergence = (_entropy(mixture) - (entropy + _entropy(pretrained)) / 2).clamp(min=0)
    prior = weights[..., 0]
    return torch.stack([prior, 1 - token_share * (1 - prior), entropy, divergence])


def _entropy(weights: Tensor) -> Tensor:
    """Return ``-sum(w log w)`` over the last dimension, in half the time of ``torch.special.entr``."""
    return -weights.clamp(min=torch.finfo(weights.dtype).tiny).log_().mul_(weights).sum(-1)


def _wide(weights: Tensor) -> Tensor:
    return weights.to(torch.promote_types(weights.dtype, torch.float32))
