"""T5's attention: no biases, scale 1, a learned bias on relative positions (docs/method.md, section 5)."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from nvreg.models.adapter import Adapter
from nvreg.models.cache import given_cache


class T5Adapter(Adapter):
    """T5 (v1.1, Flan and ByT5 are the same classes) and mT5."""

    attention_classes: ClassVar = {"t5": "T5Attention", "mt5": "MT5Attention"}
    query_module: ClassVar = "q"
    key_value_modules: ClassVar = ("k", "v")
    output_projection: ClassVar = "o"
    head_dim: ClassVar = "key_value_proj_dim"
    mask: ClassVar = "mask"

    def role(self, module: Any, name: str) -> str:
        if not module.is_decoder:
            return "encoder"
        return "cross" if name.endswith("EncDecAttention") else "decoder"

    def forward(
        self,
        module: Any,
        hidden_states: Tensor,
        *,
        is_causal: bool,
        position_bias: Tensor | None = None,
        **kwargs: Any,
    ) -> tuple[Any, ...]:
        need_weights = self.needs_weights(module, kwargs)  # before another implementation's mask is read
        cache, mask = given_cache(kwargs), kwargs.get(self.mask)
        past = 0 if cache is None else cache.get_seq_length(module.layer_idx)
        if isinstance(past, Tensor):
            past = past.clone()  # a static cache counts in place
        query, components = self.components(module, hidden_states, kwargs)
        if position_bias is None:
            position_bias = _position_bias(module, query, components[0], past)
        if kwargs.get(self.states) is None:
            mask = _position_mask(position_bias, mask, is_causal=is_causal and not need_weights)
        output, weights = self.attend(
            module, query, components, mask, is_causal=False, need_weights=need_weights
        )
        return output, position_bias, weights


class UMT5Adapter(T5Adapter):
    """UMT5: other names for the arguments, and a position bias of its own in every layer."""

    attention_classes: ClassVar = {"umt5": "UMT5Attention"}
    states: ClassVar = "encoder_hidden_states"
    mask: ClassVar = "attention_mask"

    def forward(self, module: Any, hidden_states: Tensor, **kwargs: Any) -> tuple[Any, ...]:
        output, _, weights = super().forward(module, hidden_states, **kwargs)
        return output, weights


def _position_bias(module: Any, query: Tensor, key: Tensor, past: int | Tensor) -> Tensor:
    """Return what the module would hand on to the next layer, shape (1, heads, queries, keys)."""
    queries, keys = query.shape[2], key.shape[2]
    if module.has_relative_attention_bias:
        return module.compute_bias(queries, keys, device=query.device, past_seen_tokens=past)
    return query.new_zeros(1).expand(1, module.n_heads, queries, keys)


def _position_mask(position_bias: Tensor, mask: Tensor | None, *, is_causal: bool) -> Tensor:
    """Merge position bias and mask; finite, and in the dtype of the bias unless that does not hold the sum.

    Args:
        position_bias: shape (1, heads, queries, keys).
        mask: what Transformers passes: bool or additive, shape (batch, 1, queries, keys), or None.
        is_causal: whether the module hides later keys where there is no mask.
    """
    queries, keys = position_bias.shape[-2:]
    if mask is None and is_causal and queries > 1:
        mask = torch.ones(queries, keys, dtype=torch.bool, device=position_bias.device).tril()
    if mask is None:
        return position_bias
    if mask.dtype == torch.bool:
        return torch.where(mask, position_bias, torch.finfo(position_bias.dtype).min / 2)
    return position_bias.to(torch.promote_types(position_bias.dtype, torch.float32)) + mask
