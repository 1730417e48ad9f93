"""GPT-NeoX's attention and others': Llama's, but one projection makes queries, keys and values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor

from nvreg.attention.rotary import Rotation
from nvreg.models.adapter import FusedAdapter, is_eager
from nvreg.models.layouts.llama import LlamaAdapter


class NeoXAdapter(FusedAdapter, LlamaAdapter):
    """GPT-NeoX and Pythia: each head's query, key and value side by side, part of a head rotated."""

    attention_classes: ClassVar = {"gpt_neox": "GPTNeoXAttention"}
    key_value_modules: ClassVar = ("query_key_value",)
    output_projection: ClassVar = "dense"

    def split(self, module: Any, features: Tensor) -> tuple[Tensor, ...]:
        return features.unflatten(-1, (-1, 3, module.head_size)).unbind(-2)


class Phi3Adapter(FusedAdapter, LlamaAdapter):
    """Phi-3: all queries, then all keys, then all values."""

    attention_classes: ClassVar = {"phi3": "Phi3Attention"}
    key_value_modules: ClassVar = ("qkv_proj",)

    def split(self, module: Any, features: Tensor) -> tuple[Tensor, ...]:
        heads, key_heads = module.config.num_attention_heads, module.num_key_value_heads
        return features.unflatten(-1, (-1, module.head_dim)).split([heads, key_heads, key_heads], dim=-2)


class ModernBertAdapter(FusedAdapter, LlamaAdapter):
    """ModernBERT: all queries, then all keys, then all values, in an encoder."""

    attention_classes: ClassVar = {"modernbert": "ModernBertAttention"}
    key_value_modules: ClassVar = ("Wqkv",)
    output_projection: ClassVar = "Wo"

    def split(self, module: Any, features: Tensor) -> tuple[Tensor, ...]:
        return features.unflatten(-1, (3, -1, module.head_dim)).unbind(-3)

    def role(self, module: Any, name: str) -> str:
        return "encoder"


class FalconAdapter(FusedAdapter, LlamaAdapter):
    """Falcon: each key head's queries, key and value side by side; positions rotary, or a bias (ALiBi)."""

    attention_classes: ClassVar = {"falcon": "FalconAttention"}
    key_value_modules: ClassVar = ("query_key_value",)
    output_projection: ClassVar = "dense"

    def split(self, module: Any, features: Tensor) -> tuple[Tensor, ...]:
        grouped = features.unflatten(-1, (module.num_kv_heads, -1, module.head_dim))
        return grouped[..., :-2, :].flatten(-3, -2), grouped[..., -2, :], grouped[..., -1, :]

    def project(self, module: Any, hidden_states: Tensor, means: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        query, key, value = super().project(module, hidden_states, means)
        if module.new_decoder_architecture:  # whose cache has as many keys as queries
            groups = module.num_heads // module.num_kv_heads
            key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
        return query, key, value

    def rotation(self, module: Any, hidden_states: Tensor, kwargs: Mapping[str, Any]) -> Rotation | None:
        return super().rotation(module, hidden_states, kwargs) if kwargs.get("alibi") is None else None

    def forward(self, module: Any, hidden_states: Tensor, **kwargs: Any) -> tuple[Any, ...]:
        alibi = kwargs.get("alibi")
        if alibi is not None and is_eager(module.config):  # which adds to the mask what is in it already
            bias = alibi.view(len(hidden_states), -1, 1, alibi.shape[-1]) * self.scale(module)
            kwargs["attention_mask"] = kwargs["attention_mask"] + bias
        return super().forward(module, hidden_states, **kwargs)
