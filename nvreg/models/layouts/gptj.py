"""GPT-J's attention: Llama's with neighbours as rotary pairs, and positions of its own in every layer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor

from nvreg.attention.rotary import Rotation
from nvreg.models.adapter import Adapter


class GPTJAdapter(Adapter):
    """GPT-J; Transformers has its eager attention only."""

    attention_classes: ClassVar = {"gptj": "GPTJAttention"}
    cache: ClassVar = "layer_past"
    is_eager_only: ClassVar = True

    def role(self, module: Any, name: str) -> str:
        return "decoder"

    def scale(self, module: Any) -> float:
        return 1 / module.scale_attn

    def rotation(self, module: Any, hidden_states: Tensor, kwargs: Mapping[str, Any]) -> Rotation:
        positions = module.embed_positions.to(hidden_states)[kwargs["position_ids"]][:, None]
        sin, cos = positions.repeat_interleave(2, dim=-1).chunk(2, dim=-1)
        return Rotation(cos, sin, interleaved=True)
