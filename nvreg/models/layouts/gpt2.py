"""GPT-2's attention: one projection makes queries, keys and values, in cross-attention keys and values."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

from torch import Tensor
from torch.nn import functional as F
from transformers import Cache

from nvreg.attention.fused import Projection
from nvreg.models.adapter import Adapter, affine_map, is_eager, is_plain, split_heads
from nvreg.models.cache import Components, cached


class GPT2Adapter(Adapter):
    """GPT-2, with cross-attention too."""

    attention_classes: ClassVar = {"gpt2": "GPT2Attention"}

    def role(self, module: Any, name: str) -> str:
        return "cross" if module.is_cross_attention else "decoder"

    def scale(self, module: Any) -> float:
        return module.scaling

    def width(self, module: Any) -> int:
        return module.embed_dim

    def projections(self, module: Any) -> tuple[Projection, Projection]:
        weight, bias = affine_map(module.c_attn, module.embed_dim)
        by_head = (-1, module.num_heads, module.head_dim)
        *_, key, value = map(Projection, weight.unflatten(0, by_head), bias.unflatten(0, by_head))
        return key, value

    def key_input(
        self, hidden_states: Tensor, encoder_hidden_states: Tensor | None = None, **_: Any
    ) -> Tensor:
        return hidden_states if encoder_hidden_states is None else encoder_hidden_states

    def forward(
        self,
        module: Any,
        hidden_states: Tensor,
        past_key_values: Cache | None = None,
        attention_mask: Tensor | None = None,
        encoder_hidden_states: Tensor | None = None,
        encoder_attention_mask: Tensor | None = None,
        **_: Any,
    ) -> tuple[Tensor, Tensor | None]:
        if module.is_cross_attention:
            query, attention_mask = module.q_attn(hidden_states), encoder_attention_mask

            def project() -> Components:
                means, bias = module.nv.token_components(encoder_hidden_states)
                return *_by_head(module, module.c_attn(means)), bias
        else:
            means, bias = module.nv.token_components(hidden_states)
            query, key_value = _project(module.c_attn, hidden_states, means, module.embed_dim)

            def project() -> Components:
                return *_by_head(module, key_value), bias

        key, value, bias = cached(
            past_key_values, module.layer_idx, project, is_cross=module.is_cross_attention
        )
        output, weights = module.nv.attend(
            module,
            split_heads(query, module.head_dim),
            key,
            value,
            bias,
            attention_mask,
            is_causal=module.is_causal,
            need_weights=is_eager(module.config),
        )
        return module.c_proj(output), weights


def _by_head(module: Any, key_value: Tensor) -> Iterator[Tensor]:
    return (split_heads(half, module.head_dim) for half in key_value.chunk(2, dim=-1))


def _project(fused: Any, hidden_states: Tensor, means: Tensor, width: int) -> tuple[Tensor, Tensor]:
    """Return the queries of ``hidden_states``, and the keys and values of ``means`` in one tensor.

    Where they are not the same, only a plain weight can be split: whatever else is run on both.
    """
    if means is hidden_states:
        return fused(hidden_states).split([width, 2 * width], dim=-1)
    if not is_plain(fused):
        return fused(hidden_states)[..., :width], fused(means)[..., width:]
    weight, bias = fused.weight.T, fused.bias
    return F.linear(hidden_states, weight[:width], bias[:width]), F.linear(
        means, weight[width:], bias[width:]
    )
