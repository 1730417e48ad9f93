"""GPT-Neo's attention: BART's projections without biases, no scale, and a window in every other layer."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor
from transformers import Cache

from nvreg.models.adapter import split_heads
from nvreg.models.cache import Components, cached
from nvreg.models.layouts.bart import BartAdapter


class GPTNeoAdapter(BartAdapter):
    """GPT-Neo; Transformers has its eager attention only."""

    attention_classes: ClassVar = {"gpt_neo": "GPTNeoSelfAttention"}

    def role(self, module: Any, name: str) -> str:
        return "decoder"

    def scale(self, module: Any) -> float:
        return 1.0

    def forward(
        self,
        module: Any,
        hidden_states: Tensor,
        *,
        attention_mask: Tensor | None = None,
        layer_past: Cache | None = None,
        output_attentions: bool = False,
        **_: Any,
    ) -> tuple[Tensor, Tensor | None]:
        past = 0 if layer_past is None else layer_past.get_seq_length(module.layer_id)
        positions = past + torch.arange(hidden_states.shape[1], device=hidden_states.device)

        def project() -> Components:
            means, bias = module.nv.token_components(hidden_states)
            key, value = module.k_proj(means), module.v_proj(means)
            return split_heads(key, module.head_dim), split_heads(value, module.head_dim), bias

        query = split_heads(module.q_proj(hidden_states), module.head_dim)
        key, value, bias = cached(layer_past, module.layer_id, project)
        in_window = module.bias[:, :, positions, : key.shape[2]]
        mask = in_window
        if attention_mask is not None:
            mask = attention_mask.masked_fill(~in_window, torch.finfo(attention_mask.dtype).min)
        output, weights = module.nv.attend(
            query, key, value, bias, mask, is_causal=False, need_weights=output_attentions
        )
        return module.out_proj(output), weights
