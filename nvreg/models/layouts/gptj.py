"""GPT-J's attention: Llama's with neighbours as rotary pairs, and positions of its own in every layer."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor
from transformers import Cache

from nvreg.attention.rotary import Rotation
from nvreg.models.layouts.llama import RotaryAdapter


class GPTJAdapter(RotaryAdapter):
    """GPT-J; Transformers has its eager attention only."""

    attention_classes: ClassVar = {"gptj": "GPTJAttention"}
    output_projection: ClassVar = "out_proj"

    def scale(self, module: Any) -> float:
        return 1 / module.scale_attn

    def forward(
        self,
        module: Any,
        hidden_states: Tensor,
        *,
        position_ids: Tensor,
        attention_mask: Tensor | None = None,
        layer_past: Cache | None = None,
        output_attentions: bool = False,
        **_: Any,
    ) -> tuple[Tensor, Tensor | None]:
        positions = module.embed_positions.to(hidden_states)[position_ids][:, None]
        sin, cos = positions.repeat_interleave(2, dim=-1).chunk(2, dim=-1)
        rotation = Rotation(cos, sin, interleaved=True)
        return self.attend(
            module,
            hidden_states,
            rotation,
            attention_mask,
            layer_past,
            is_causal=False,
            need_weights=output_attentions,
        )
