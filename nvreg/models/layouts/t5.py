"""T5's attention: no biases, scale 1, a learned bias on relative positions (docs/method.md, section 5)."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor
from transformers import Cache

from nvreg.attention.fused import Projection
from nvreg.models.adapter import Adapter, is_eager, projection, split_heads
from nvreg.models.cache import Components, cached


class T5Adapter(Adapter):
    """T5 (v1.1, Flan and ByT5 are the same classes) and mT5."""

    attention_classes: ClassVar = {"t5": "T5Attention", "mt5": "MT5Attention"}
    key_value_modules: ClassVar = ("k", "v")
    output_projection: ClassVar = "o"

    def role(self, module: Any, name: str) -> str:
        if not module.is_decoder:
            return "encoder"
        return "cross" if name.endswith("EncDecAttention") else "decoder"

    def scale(self, module: Any) -> float:
        return module.scaling

    def width(self, module: Any) -> int:
        return module.d_model

    def projections(self, module: Any) -> tuple[Projection, Projection]:
        return projection(module.k, module.n_heads), projection(module.v, module.n_heads)

    def key_input(self, hidden_states: Tensor, *, key_value_states: Tensor | None = None, **_: Any) -> Tensor:
        return hidden_states if key_value_states is None else key_value_states

    def forward(
        self,
        module: Any,
        hidden_states: Tensor,
        *,
        mask: Tensor | None = None,
        key_value_states: Tensor | None = None,
        position_bias: Tensor | None = None,
        past_key_values: Cache | None = None,
        is_causal: bool,
        **_: Any,
    ) -> tuple[Any, ...]:
        need_weights = is_eager(module.config)  # before the mask is read, which another's would not be
        z = hidden_states if key_value_states is None else key_value_states
        head_dim = module.key_value_proj_dim
        past = 0 if past_key_values is None else past_key_values.get_seq_length(module.layer_idx)
        if isinstance(past, Tensor):
            past = past.clone()  # a static cache counts in place

        def project() -> Components:
            means, bias = module.nv.token_components(z)
            return split_heads(module.k(means), head_dim), split_heads(module.v(means), head_dim), bias

        query = split_heads(module.q(hidden_states), head_dim)
        key, value, bias = cached(
            past_key_values, module.layer_idx, project, is_cross=key_value_states is not None
        )
        if position_bias is None:
            position_bias = _position_bias(module, query, key, past)
        if key_value_states is None:
            mask = _position_mask(position_bias, mask, is_causal=is_causal and not need_weights)
        output, weights = module.nv.attend(
            query, key, value, bias, mask, is_causal=False, need_weights=need_weights
        )
        return module.o(output), position_bias, weights


class UMT5Adapter(T5Adapter):
    """UMT5: other names for the arguments, and a position bias of its own in every layer."""

    attention_classes: ClassVar = {"umt5": "UMT5Attention"}

    def key_input(
        self, hidden_states: Tensor, *, encoder_hidden_states: Tensor | None = None, **_: Any
    ) -> Tensor:
        return super().key_input(hidden_states, key_value_states=encoder_hidden_states)

    def forward(
        self,
        module: Any,
        hidden_states: Tensor,
        *,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        past_key_values: Cache | None = None,
        **kwargs: Any,
    ) -> tuple[Any, ...]:
        output, _, weights = super().forward(
            module,
            hidden_states,
            mask=attention_mask,
            key_value_states=encoder_hidden_states,
            past_key_values=past_key_values,
            **kwargs,
        )
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
