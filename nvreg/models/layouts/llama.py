"""Llama's attention: rotary positions over halves of a head, grouped keys; causal, in decoders only."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor
from transformers import Cache
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from nvreg.attention.fused import Projection
from nvreg.attention.rotary import Rotation
from nvreg.models.adapter import Adapter, is_eager, projection, split_heads
from nvreg.models.cache import cached


class LlamaAdapter(Adapter):
    """Llama and the models that differ from it in nothing that attention sees."""

    attention_classes: ClassVar = {
        "llama": "LlamaAttention",
        "mistral": "MistralAttention",
        "mixtral": "MixtralAttention",
        "qwen2": "Qwen2Attention",
        "gemma": "GemmaAttention",
        "olmo": "OlmoAttention",
        "starcoder2": "Starcoder2Attention",
        "granite": "GraniteAttention",
    }
    output_projection: ClassVar = "o_proj"

    def refusal(self, config: Any) -> str | None:
        if getattr(config, "clip_qkv", None) is not None:
            return "keys are clipped after projection (clip_qkv)"
        if getattr(config, "qk_layernorm", False):
            return "keys are normalised after projection (qk_layernorm)"
        return None

    def role(self, module: Any, name: str) -> str:
        return "decoder"

    def scale(self, module: Any) -> float:
        return module.scaling * attention_factor(module.config) ** 2

    def width(self, module: Any) -> int:
        return module.k_proj.in_features

    def projections(self, module: Any) -> tuple[Projection, Projection]:
        heads = module.k_proj.out_features // module.head_dim
        return projection(module.k_proj, heads), projection(module.v_proj, heads)

    def key_input(self, hidden_states: Tensor, **_: Any) -> Tensor:
        return hidden_states

    def forward(
        self,
        module: Any,
        hidden_states: Tensor,
        position_embeddings: tuple[Tensor, Tensor],
        attention_mask: Tensor | None = None,
        past_key_values: Cache | None = None,
        **_: Any,
    ) -> tuple[Tensor, Tensor | None]:
        rotation = unit_rotation(module, *position_embeddings)
        query = split_heads(module.q_proj(hidden_states), module.head_dim)

        def project() -> tuple[Tensor, Tensor, Tensor | None]:
            means, bias = module.nv.token_components(hidden_states)
            key = rotation(split_heads(module.k_proj(means), module.head_dim))
            value = split_heads(module.v_proj(means), module.head_dim)
            return key, module.nv.with_columns(value, rotation), bias

        key, value, bias = cached(past_key_values, module.layer_idx, project)
        output, weights = module.nv.attend(
            module,
            query,
            key,
            value,
            bias,
            attention_mask,
            is_causal=module.is_causal,
            need_weights=is_eager(module.config),
            rotation=rotation,
        )
        return getattr(module, self.output_projection)(output), weights


class PhiAdapter(LlamaAdapter):
    """Phi: rotates part of a head."""

    attention_classes: ClassVar = {"phi": "PhiAttention"}
    output_projection: ClassVar = "dense"


def attention_factor(config: Any) -> float:
    """Return a, by which YaRN and longrope multiply cosines and sines: the scale is c a^2 (section 5)."""
    rope_type = config.rope_parameters["rope_type"]
    return 1.0 if rope_type == "default" else ROPE_INIT_FUNCTIONS[rope_type](config, device="cpu")[1]


def unit_rotation(module: Any, cos: Tensor, sin: Tensor) -> Rotation:
    """Return the rotation without attention factor from cosines and sines of shape (batch, tokens, r)."""
    factor = (module.nv.scale / module.scaling) ** 0.5
    half = cos.shape[-1] // 2
    return Rotation(cos[:, None, :, :half] / factor, sin[:, None, :, :half] / factor)
