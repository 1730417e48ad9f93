"""GPT-2's attention: one projection makes queries, keys and values, in cross-attention keys and values."""

from __future__ import annotations

from functools import partial
from typing import Any, ClassVar

from torch import Tensor
from transformers import Cache

from nvreg.attention.fused import Projection
from nvreg.models.adapter import Adapter, fused_projections, is_eager, project_fused, split_heads
from nvreg.models.cache import Components, cached


class GPT2Adapter(Adapter):
    """GPT-2: all queries, then all keys, then all values."""

    attention_classes: ClassVar = {"gpt2": "GPT2Attention"}
    key_value_modules: ClassVar = ("c_attn",)
    output_projection: ClassVar = "c_proj"

    def split(self, module: Any, features: Tensor) -> tuple[Tensor, ...]:
        """Split what the projection makes, shape (..., features), into parts of shape (..., heads, e)."""
        return features.unflatten(-1, (-1, module.num_heads, module.head_dim)).unbind(-3)

    def role(self, module: Any, name: str) -> str:
        return "cross" if module.is_cross_attention else "decoder"

    def scale(self, module: Any) -> float:
        return module.scaling

    def width(self, module: Any) -> int:
        return module.embed_dim

    def projections(self, module: Any) -> tuple[Projection, Projection]:
        return fused_projections(module.c_attn, module.embed_dim, partial(self.split, module))

    def key_input(
        self, hidden_states: Tensor, encoder_hidden_states: Tensor | None = None, **_: Any
    ) -> Tensor:
        return hidden_states if encoder_hidden_states is None else encoder_hidden_states

    def forward(
        self,
        module: Any,
        hidden_states: Tensor,
        *,
        past_key_values: Cache | None = None,
        attention_mask: Tensor | None = None,
        encoder_hidden_states: Tensor | None = None,
        encoder_attention_mask: Tensor | None = None,
        is_causal: bool,
        **_: Any,
    ) -> tuple[Tensor, Tensor | None]:
        split = partial(self.split, module)
        if module.is_cross_attention:
            query = split_heads(module.q_attn(hidden_states), module.head_dim)
            attention_mask = encoder_attention_mask

            def project() -> Components:
                means, bias = module.nv.token_components(encoder_hidden_states)
                key, value = split(module.c_attn(means))
                return key.transpose(1, 2), value.transpose(1, 2), bias
        else:
            means, new_bias = module.nv.token_components(hidden_states)
            parts = project_fused(module.c_attn, hidden_states, means, split)
            query, new_key, new_value = (part.transpose(1, 2) for part in parts)

            def project() -> Components:
                return new_key, new_value, new_bias

        key, value, bias = cached(
            past_key_values, module.layer_idx, project, is_cross=module.is_cross_attention
        )
        output, weights = module.nv.attend(
            query,
            key,
            value,
            bias,
            attention_mask,
            is_causal=is_causal,
            need_weights=is_eager(module.config),
        )
        return module.c_proj(output), weights


class GPTBigCodeAdapter(GPT2Adapter):
    """GPT-BigCode: all queries, then one key and value for all heads; or each head's three side by side."""

    attention_classes: ClassVar = {"gpt_bigcode": "GPTBigCodeAttention"}

    def split(self, module: Any, features: Tensor) -> tuple[Tensor, ...]:
        if module.multi_query:
            return features.unflatten(-1, (-1, module.head_dim)).split([module.num_heads, 1, 1], dim=-2)
        return features.unflatten(-1, (-1, 3, module.head_dim)).unbind(-2)

    def forward(
        self, module: Any, hidden_states: Tensor, *, layer_past: Cache | None = None, **kwargs: Any
    ) -> tuple[Tensor, Tensor | None]:
        return super().forward(module, hidden_states, past_key_values=layer_past, **kwargs)
