"""Llama's attention: rotary positions over halves of a head, grouped keys; causal, in decoders only."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor
from transformers import Cache
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from nvreg.attention.fused import Projection
from nvreg.attention.rotary import Rotation
from nvreg.models.adapter import Adapter, is_eager, projection, split_heads
from nvreg.models.cache import Components, cached


class RotaryAdapter(Adapter):
    """A rotary decoder, wherever its rotations come from."""

    key_value_modules: ClassVar[tuple[str, ...]] = ("k_proj", "v_proj")
    output_projection: ClassVar[str] = "o_proj"

    def role(self, module: Any, name: str) -> str:
        return "decoder"

    def width(self, module: Any) -> int:
        return module.k_proj.in_features

    def projections(self, module: Any) -> tuple[Projection, Projection]:
        heads = module.k_proj.out_features // module.head_dim
        return projection(module.k_proj, heads), projection(module.v_proj, heads)

    def key_input(self, hidden_states: Tensor, **_: Any) -> Tensor:
        return hidden_states

    def project(self, module: Any, hidden_states: Tensor, means: Tensor) -> tuple[Tensor, ...]:
        """Return queries of ``hidden_states``, keys and values of ``means``, (batch, heads, tokens, e)."""
        return tuple(
            split_heads(linear(z), module.head_dim)
            for linear, z in (
                (module.q_proj, hidden_states),
                (module.k_proj, means),
                (module.v_proj, means),
            )
        )

    def attend(
        self,
        module: Any,
        hidden_states: Tensor,
        rotation: Rotation,
        mask: Tensor | None,
        cache: Cache | None,
        *,
        is_causal: bool,
        need_weights: bool,
        factor: float = 1.0,
    ) -> tuple[Tensor, Tensor | None]:
        """Run the module; ``factor`` is a^2, by which the model scales products of what it rotates."""
        means, bias = module.nv.token_components(hidden_states)
        query, new_key, new_value = self.project(module, hidden_states, means)
        rotated = rotation.cos.shape[-1]
        if factor != 1 and rotated < query.shape[-1]:  # c a^2 must serve the rest of the head too
            query = torch.cat([query[..., :rotated], query[..., rotated:] / factor], dim=-1)

        def project() -> Components:
            return rotation(new_key), module.nv.with_columns(new_value, rotation), bias

        key, value, biases = cached(cache, module.layer_idx, project)
        output, weights = module.nv.attend(
            query,
            key,
            value,
            biases,
            mask,
            is_causal=is_causal,
            need_weights=need_weights,
            rotation=rotation,
        )
        return getattr(module, self.output_projection)(output), weights


class LlamaAdapter(RotaryAdapter):
    """Llama and the models that differ from it in nothing that attention sees."""

    attention_classes: ClassVar = {
        "llama": "LlamaAttention",
        "mistral": "MistralAttention",
        "qwen2": "Qwen2Attention",
        "gemma": "GemmaAttention",
        "olmo": "OlmoAttention",
        "starcoder2": "Starcoder2Attention",
        "granite": "GraniteAttention",
        "stablelm": "StableLmAttention",
        "ministral": "MinistralAttention",
        "seed_oss": "SeedOssAttention",
        "cwm": "CwmAttention",
        "arcee": "ArceeAttention",
        "nemotron": "NemotronAttention",
        "mixtral": "MixtralAttention",
        "qwen2_moe": "Qwen2MoeAttention",
        "granitemoe": "GraniteMoeAttention",
        "phimoe": "PhimoeAttention",
        "glm4_moe": "Glm4MoeAttention",
    }
    refused_options: ClassVar = {
        "clip_qkv": "keys are clipped after projection",
        "qk_layernorm": "keys are normalised after projection",
        "use_qk_norm": "keys are normalised after projection",
    }

    def scale(self, module: Any) -> float:
        return module.scaling * attention_factor(module.config) ** 2

    def rotation(self, module: Any, cos: Tensor, sin: Tensor) -> Rotation:
        """Return the module's rotation from what every module is given, shape (batch, 1, tokens, r)."""
        return Rotation(cos, sin)

    def forward(
        self,
        module: Any,
        hidden_states: Tensor,
        *,
        position_embeddings: tuple[Tensor, Tensor],
        attention_mask: Tensor | None = None,
        past_key_values: Cache | None = None,
        is_causal: bool,
        **_: Any,
    ) -> tuple[Tensor, Tensor | None]:
        factor = module.nv.scale / module.scaling
        return self.attend(
            module,
            hidden_states,
            self.rotation(module, *unit_positions(*position_embeddings, factor)),
            attention_mask,
            past_key_values,
            is_causal=is_causal,
            need_weights=is_eager(module.config),
            factor=factor,
        )


class PhiAdapter(LlamaAdapter):
    """Phi: rotates part of a head."""

    attention_classes: ClassVar = {"phi": "PhiAttention"}
    output_projection: ClassVar = "dense"


class SmolLM3Adapter(LlamaAdapter):
    """SmolLM3: some layers have no positions."""

    attention_classes: ClassVar = {"smollm3": "SmolLM3Attention"}

    def rotation(self, module: Any, cos: Tensor, sin: Tensor) -> Rotation:
        return Rotation(cos, sin) if module.use_rope else Rotation(cos[..., :0], sin[..., :0])


class CohereAdapter(LlamaAdapter):
    """Cohere: neighbours are rotary pairs."""

    attention_classes: ClassVar = {"cohere": "CohereAttention"}

    def rotation(self, module: Any, cos: Tensor, sin: Tensor) -> Rotation:
        return Rotation(cos, sin, interleaved=True)


class GlmAdapter(LlamaAdapter):
    """GLM and Helium: neighbours are rotary pairs, though cosines and sines are given by halves."""

    attention_classes: ClassVar = {
        "glm": "GlmAttention",
        "glm4": "Glm4Attention",
        "helium": "HeliumAttention",
    }

    def rotation(self, module: Any, cos: Tensor, sin: Tensor) -> Rotation:
        pairs = cos.shape[-1] // 2
        cos, sin = (each[..., :pairs].repeat_interleave(2, dim=-1) for each in (cos, sin))
        return Rotation(cos, sin, interleaved=True)


def attention_factor(config: Any) -> float:
    """Return a, by which YaRN and longrope multiply cosines and sines: the scale is c a^2 (section 5)."""
    rope_type = config.rope_parameters["rope_type"]
    return 1.0 if rope_type == "default" else ROPE_INIT_FUNCTIONS[rope_type](config, device="cpu")[1]


def unit_positions(cos: Tensor, sin: Tensor, factor: float) -> tuple[Tensor, Tensor]:
    """Return cosines and sines, (batch, 1, tokens, r), from those times the root of ``factor``."""
    cos, sin = cos[:, None], sin[:, None]
    return (cos, sin) if factor == 1 else (cos / factor**0.5, sin / factor**0.5)
