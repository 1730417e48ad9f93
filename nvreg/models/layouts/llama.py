"""Llama's attention: rotary positions over halves of a head, grouped keys; in decoders and some encoders."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from nvreg.attention.rotary import Rotation
from nvreg.models.adapter import Adapter
from nvreg.models.cache import Components


class LlamaAdapter(Adapter):
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
    output_projection: ClassVar[str] = "o_proj"

    def role(self, module: Any, name: str) -> str:
        return "decoder"

    def scale(self, module: Any) -> float:
        return super().scale(module) * attention_factor(module) ** 2

    def rotation(self, module: Any, hidden_states: Tensor, kwargs: Mapping[str, Any]) -> Rotation | None:
        cos, sin = kwargs["position_embeddings"]
        return self.pairs(module, *unit_positions(cos, sin, self._factor(module)))

    def pairs(self, module: Any, cos: Tensor, sin: Tensor) -> Rotation:
        """Return the module's rotation by what every module is given, shape (batch, 1, tokens, r)."""
        return Rotation(cos, sin)

    def components(
        self, module: Any, hidden_states: Tensor, kwargs: Mapping[str, Any], rotation: Rotation | None = None
    ) -> tuple[Tensor, Components]:
        query, components = super().components(module, hidden_states, kwargs, rotation)
        rotated = query.shape[-1] if rotation is None else rotation.cos.shape[-1]
        if (
            rotated < query.shape[-1] and (factor := self._factor(module)) != 1
        ):  # c a^2 must serve the rest too
            query = torch.cat([query[..., :rotated], query[..., rotated:] / factor], dim=-1)
        return query, components

    def _factor(self, module: Any) -> float:
        """Return a^2, by which the model scales products of what it rotates."""
        return module.nv.scale / super().scale(module)


class EuroBertAdapter(LlamaAdapter):
    """EuroBERT and NomicBERT: encoders."""

    attention_classes: ClassVar = {"eurobert": "EuroBertAttention", "nomic_bert": "NomicBertAttention"}

    def role(self, module: Any, name: str) -> str:
        return "encoder"


class Ministral3Adapter(LlamaAdapter):
    """Ministral 3: queries beyond the original length are scaled by their position.

    The scale is no constant, so it is part of the query that components and prior meet, not of c.
    """

    attention_classes: ClassVar = {"ministral3": "Ministral3Attention"}

    def components(
        self, module: Any, hidden_states: Tensor, kwargs: Mapping[str, Any], rotation: Rotation | None = None
    ) -> tuple[Tensor, Components]:
        query, components = super().components(module, hidden_states, kwargs, rotation)
        parameters = module.config.rope_parameters
        stretches = kwargs["position_ids"] // parameters["original_max_position_embeddings"]
        scale = 1 + parameters["llama_4_scaling_beta"] * torch.log1p(stretches)
        return query * scale[:, None, :, None].to(query.dtype), components


class PhiAdapter(LlamaAdapter):
    """Phi: rotates part of a head."""

    attention_classes: ClassVar = {"phi": "PhiAttention"}
    output_projection: ClassVar = "dense"


class SmolLM3Adapter(LlamaAdapter):
    """SmolLM3: some layers have no positions."""

    attention_classes: ClassVar = {"smollm3": "SmolLM3Attention"}

    def pairs(self, module: Any, cos: Tensor, sin: Tensor) -> Rotation:
        return Rotation(cos, sin) if module.use_rope else Rotation(cos[..., :0], sin[..., :0])


class CohereAdapter(LlamaAdapter):
    """Cohere: neighbours are rotary pairs."""

    attention_classes: ClassVar = {"cohere": "CohereAttention"}

    def pairs(self, module: Any, cos: Tensor, sin: Tensor) -> Rotation:
        return Rotation(cos, sin, interleaved=True)


class GlmAdapter(LlamaAdapter):
    """GLM, Helium, Ernie 4.5: neighbours are rotary pairs, though cosines and sines are given by halves."""

    attention_classes: ClassVar = {
        "glm": "GlmAttention",
        "glm4": "Glm4Attention",
        "helium": "HeliumAttention",
        "ernie4_5": "Ernie4_5Attention",
        "ernie4_5_moe": "Ernie4_5_MoeAttention",
    }

    def pairs(self, module: Any, cos: Tensor, sin: Tensor) -> Rotation:
        half = cos.shape[-1] // 2
        cos, sin = (each[..., :half].repeat_interleave(2, dim=-1) for each in (cos, sin))
        return Rotation(cos, sin, interleaved=True)


def attention_factor(module: Any) -> float:
    """Return a, by which YaRN and longrope multiply cosines and sines: the scale is c a^2 (section 5)."""
    config, layer_type = module.config, None
    parameters = config.rope_parameters
    if "rope_type" not in parameters:  # each type of layer has its own
        layer_type = config.layer_types[module.layer_idx]
        parameters = parameters[layer_type]
    if (rope_type := parameters["rope_type"]) == "default":
        return 1.0
    return ROPE_INIT_FUNCTIONS[rope_type](config, device="cpu", layer_type=layer_type)[1]


def unit_positions(cos: Tensor, sin: Tensor, factor: float) -> tuple[Tensor, Tensor]:
    """Return cosines and sines, (batch, 1, tokens, r), from those times the root of ``factor``."""
    cos, sin = cos[:, None], sin[:, None]
    return (cos, sin) if factor == 1 else (cos / factor**0.5, sin / factor**0.5)
