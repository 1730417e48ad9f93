"""GPT-NeoX's attention, and Phi-3's: Llama's, but one projection makes queries, keys and values."""

from __future__ import annotations

from abc import abstractmethod
from functools import partial
from typing import Any, ClassVar

from torch import Tensor
from transformers import Cache

from nvreg.attention.fused import Projection
from nvreg.models.adapter import fused_projections, project_fused
from nvreg.models.layouts.llama import LlamaAdapter


class FusedRotaryAdapter(LlamaAdapter):
    """Rotary attention with one projection; a subclass says in what order its features are."""

    @abstractmethod
    def split(self, module: Any, features: Tensor) -> tuple[Tensor, ...]:
        """Return query, key and value features, shape (..., heads, e), of projected ones, (..., features)."""

    def fused(self, module: Any) -> Any:
        """Return the projection."""
        return getattr(module, self.key_value_modules[0])

    def width(self, module: Any) -> int:
        return module.config.hidden_size

    def projections(self, module: Any) -> tuple[Projection, Projection]:
        return fused_projections(self.fused(module), self.width(module), partial(self.split, module))

    def project(self, module: Any, hidden_states: Tensor, means: Tensor) -> tuple[Tensor, ...]:
        parts = project_fused(self.fused(module), hidden_states, means, partial(self.split, module))
        return tuple(part.transpose(1, 2) for part in parts)


class NeoXAdapter(FusedRotaryAdapter):
    """GPT-NeoX and Pythia: each head's query, key and value side by side, part of a head rotated."""

    attention_classes: ClassVar = {"gpt_neox": "GPTNeoXAttention"}
    key_value_modules: ClassVar = ("query_key_value",)
    output_projection: ClassVar = "dense"

    def split(self, module: Any, features: Tensor) -> tuple[Tensor, ...]:
        return features.unflatten(-1, (-1, 3, module.head_size)).unbind(-2)

    def forward(
        self, module: Any, hidden_states: Tensor, *, layer_past: Cache | None = None, **kwargs: Any
    ) -> tuple[Tensor, Tensor | None]:
        return super().forward(module, hidden_states, past_key_values=layer_past, **kwargs)


class Phi3Adapter(FusedRotaryAdapter):
    """Phi-3: all queries, then all keys, then all values."""

    attention_classes: ClassVar = {"phi3": "Phi3Attention"}
    key_value_modules: ClassVar = ("qkv_proj",)

    def split(self, module: Any, features: Tensor) -> tuple[Tensor, ...]:
        heads, key_heads = module.config.num_attention_heads, module.num_key_value_heads
        return features.unflatten(-1, (-1, module.head_dim)).split([heads, key_heads, key_heads], dim=-2)
