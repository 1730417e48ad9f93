"""GPT-2's attention: one projection makes queries, keys and values, in cross-attention keys and values."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor

from nvreg.models.adapter import FusedAdapter


class GPT2Adapter(FusedAdapter):
    """GPT-2: all queries, then all keys, then all values."""

    attention_classes: ClassVar = {"gpt2": "GPT2Attention"}
    query_module: ClassVar = "q_attn"
    key_value_modules: ClassVar = ("c_attn",)
    output_projection: ClassVar = "c_proj"
    states: ClassVar = "encoder_hidden_states"

    def split(self, module: Any, features: Tensor) -> tuple[Tensor, ...]:
        return features.unflatten(-1, (-1, module.num_heads, module.head_dim)).unbind(-3)

    def role(self, module: Any, name: str) -> str:
        return "cross" if module.is_cross_attention else "decoder"

    def forward(
        self,
        module: Any,
        hidden_states: Tensor,
        *,
        attention_mask: Tensor | None = None,
        encoder_attention_mask: Tensor | None = None,
        **kwargs: Any,
    ) -> tuple[Any, ...]:
        mask = encoder_attention_mask if module.is_cross_attention else attention_mask
        return super().forward(module, hidden_states, attention_mask=mask, **kwargs)


class GPTBigCodeAdapter(GPT2Adapter):
    """GPT-BigCode: all queries, then one key and value for all heads; or each head's three side by side."""

    attention_classes: ClassVar = {"gpt_bigcode": "GPTBigCodeAttention"}

    def split(self, module: Any, features: Tensor) -> tuple[Tensor, ...]:
        if module.multi_query:
            return features.unflatten(-1, (-1, module.head_dim)).split([module.num_heads, 1, 1], dim=-2)
        return features.unflatten(-1, (-1, 3, module.head_dim)).unbind(-2)
