"""GPT-NeoX's attention, and Phi-3's: Llama's, but one projection makes queries, keys and values."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor

from nvreg.models.adapter import FusedAdapter
from nvreg.models.layouts.llama import LlamaAdapter


class NeoXAdapter(FusedAdapter, LlamaAdapter):
    """GPT-NeoX and Pythia: each head's query, key and value side by side, part of a head rotated."""

    attention_classes: ClassVar = {"gpt_neox": "GPTNeoXAttention"}
    key_value_modules: ClassVar = ("query_key_value",)
    output_projection: ClassVar = "dense"
    cache: ClassVar = "layer_past"

    def split(self, module: Any, features: Tensor) -> tuple[Tensor, ...]:
        return features.unflatten(-1, (-1, 3, module.head_size)).unbind(-2)


class Phi3Adapter(FusedAdapter, LlamaAdapter):
    """Phi-3: all queries, then all keys, then all values."""

    attention_classes: ClassVar = {"phi3": "Phi3Attention"}
    key_value_modules: ClassVar = ("qkv_proj",)

    def split(self, module: Any, features: Tensor) -> tuple[Tensor, ...]:
        heads, key_heads = module.config.num_attention_heads, module.num_key_value_heads
        return features.unflatten(-1, (-1, module.head_dim)).split([heads, key_heads, key_heads], dim=-2)
