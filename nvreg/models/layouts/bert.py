"""BERT's attention: one class for self-attention, in encoders and decoders, and one for cross-attention."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor
from transformers import Cache

from nvreg.attention.fused import Projection
from nvreg.models.adapter import Adapter, is_eager, projection, split_heads
from nvreg.models.cache import Components, cached


class BertAdapter(Adapter):
    """BERT and the models that copy its attention classes word for word.

    The module is the inner one, before the output projection: that has its own residual and norm.
    """

    attention_classes: ClassVar = {
        "bert": "Bert(Self|Cross)Attention",
        "roberta": "Roberta(Self|Cross)Attention",
        "xlm-roberta": "XLMRoberta(Self|Cross)Attention",
        "xlm-roberta-xl": "XLMRobertaXL(Self|Cross)Attention",
        "camembert": "Camembert(Self|Cross)Attention",
        "electra": "Electra(Self|Cross)Attention",
        "ernie": "Ernie(Self|Cross)Attention",
        "data2vec-text": "Data2VecText(Self|Cross)Attention",
        "roberta-prelayernorm": "RobertaPreLayerNorm(Self|Cross)Attention",
        "xmod": "Xmod(Self|Cross)Attention",
        "bert-generation": "BertGeneration(Self|Cross)Attention",
    }
    key_value_modules: ClassVar = ("key", "value")
    output_projection: ClassVar = "..output.dense"

    def role(self, module: Any, name: str) -> str:
        if name.endswith("crossattention.self"):
            return "cross"
        return "decoder" if module.is_decoder else "encoder"

    def scale(self, module: Any) -> float:
        return module.scaling

    def width(self, module: Any) -> int:
        return module.key.in_features

    def projections(self, module: Any) -> tuple[Projection, Projection]:
        heads = module.num_attention_heads
        return projection(module.key, heads), projection(module.value, heads)

    def key_input(
        self, hidden_states: Tensor, encoder_hidden_states: Tensor | None = None, **_: Any
    ) -> Tensor:
        return hidden_states if encoder_hidden_states is None else encoder_hidden_states

    def forward(
        self,
        module: Any,
        hidden_states: Tensor,
        *,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        past_key_values: Cache | None = None,
        is_causal: bool,
        **_: Any,
    ) -> tuple[Tensor, Tensor | None]:
        head_dim = module.attention_head_size

        def project() -> Components:
            means, bias = module.nv.token_components(self.key_input(hidden_states, encoder_hidden_states))
            return split_heads(module.key(means), head_dim), split_heads(module.value(means), head_dim), bias

        key, value, bias = cached(
            past_key_values, module.layer_idx, project, is_cross=encoder_hidden_states is not None
        )
        return module.nv.attend(
            split_heads(module.query(hidden_states), head_dim),
            key,
            value,
            bias,
            attention_mask,
            is_causal=is_causal,
            need_weights=is_eager(module.config),
        )
