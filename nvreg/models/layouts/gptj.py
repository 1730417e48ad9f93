"""GPT-J's attention: Llama's with neighbours as rotary pairs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import transformers
from torch import Tensor

from nvreg.attention.rotary import Rotation
from nvreg.models.adapter import Adapter


class GPTJAdapter(Adapter):
    """GPT-J; before version 5.24, Transformers has its eager attention only, and positions in every layer."""

    attention_classes: ClassVar = {"gptj": "GPTJAttention"}
    is_eager_only: ClassVar = tuple(map(int, transformers.__version__.split(".")[:2])) < (5, 24)

    def role(self, module: Any, name: str) -> str:
        return "decoder"

    def rotation(self, module: Any, hidden_states: Tensor, kwargs: Mapping[str, Any]) -> Rotation:
        given = kwargs.get("position_embeddings")
        if given is None:
            given = module.embed_positions.to(hidden_states)[kwargs["position_ids"]].chunk(2, dim=-1)
        sin, cos = (each[:, None].repeat_interleave(2, dim=-1) for each in given)
        return Rotation(cos, sin, interleaved=True)
