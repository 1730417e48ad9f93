"""BART's attention: separate biased projections; one class for encoder, cross- and decoder attention."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor
from transformers import Cache

from nvreg.attention.fused import Projection
from nvreg.models.adapter import Adapter, is_eager, projection, split_heads
from nvreg.models.cache import cached


class BartAdapter(Adapter):
    """BART and the models that copy its attention class word for word."""

    attention_classes: ClassVar = {
        "bart": "BartAttention",
        "mbart": "MBartAttention",
        "marian": "MarianAttention",
        "pegasus": "PegasusAttention",
        "blenderbot": "BlenderbotAttention",
        "blenderbot-small": "BlenderbotSmallAttention",
        "m2m_100": "M2M100Attention",
        "plbart": "PLBartAttention",
    }
    key_value_modules: ClassVar = ("k_proj", "v_proj")
    output_projection: ClassVar = "out_proj"

    def role(self, module: Any, name: str) -> str:
        if not module.is_decoder:
            return "encoder"
        return "cross" if name.endswith("encoder_attn") else "decoder"

    def scale(self, module: Any) -> float:
        return module.scaling

    def width(self, module: Any) -> int:
        return module.k_proj.in_features

    def projections(self, module: Any) -> tuple[Projection, Projection]:
        return projection(module.k_proj, module.num_heads), projection(module.v_proj, module.num_heads)

    def key_input(self, hidden_states: Tensor, key_value_states: Tensor | None = None, **_: Any) -> Tensor:
        return hidden_states if key_value_states is None else key_value_states

    def forward(
        self,
        module: Any,
        hidden_states: Tensor,
        *,
        key_value_states: Tensor | None = None,
        past_key_values: Cache | None = None,
        attention_mask: Tensor | None = None,
        is_causal: bool,
        **_: Any,
    ) -> tuple[Tensor, Tensor | None]:
        query = split_heads(module.q_proj(hidden_states), module.head_dim)

        def project() -> tuple[Tensor, Tensor, Tensor | None]:
            means, bias = module.nv.token_components(self.key_input(hidden_states, key_value_states))
            key, value = module.k_proj(means), module.v_proj(means)
            return split_heads(key, module.head_dim), split_heads(value, module.head_dim), bias

        key, value, bias = cached(
            past_key_values, module.layer_idx, project, is_cross=key_value_states is not None
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
        return module.out_proj(output), weights
