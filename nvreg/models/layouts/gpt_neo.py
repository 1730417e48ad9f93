"""GPT-Neo's attention: BART's projections without biases, no scale, and a window in every other layer."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from nvreg.models.adapter import Adapter
from nvreg.models.cache import given_cache


class GPTNeoAdapter(Adapter):
    """GPT-Neo; Transformers has its eager attention only."""

    attention_classes: ClassVar = {"gpt_neo": "GPTNeoSelfAttention"}
    layer: ClassVar = "layer_id"
    is_eager_only: ClassVar = True

    def role(self, module: Any, name: str) -> str:
        return "decoder"

    def scale(self, module: Any) -> float:
        return 1.0

    def forward(
        self, module: Any, hidden_states: Tensor, *, attention_mask: Tensor | None = None, **kwargs: Any
    ) -> tuple[Any, ...]:
        cache = given_cache(kwargs)
        past = 0 if cache is None else cache.get_seq_length(module.layer_id)
        positions = past + torch.arange(hidden_states.shape[1], device=hidden_states.device)
        query, components = self.components(module, hidden_states, kwargs)
        in_window = module.bias[:, :, positions, : components[0].shape[2]]
        mask = in_window
        if attention_mask is not None:
            mask = attention_mask.masked_fill(~in_window, torch.finfo(attention_mask.dtype).min)
        return self.attend(
            module,
            query,
            components,
            mask,
            is_causal=False,
            need_weights=self.needs_weights(module, kwargs),
        )
