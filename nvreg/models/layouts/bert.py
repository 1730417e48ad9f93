"""BERT's attention: one class for self-attention, in encoders and decoders, and one for cross-attention."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor

from nvreg.models.adapter import Adapter


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
    query_module: ClassVar = "query"
    key_value_modules: ClassVar = ("key", "value")
    output_projection: ClassVar = "..output.dense"
    head_dim: ClassVar = "attention_head_size"
    states: ClassVar = "encoder_hidden_states"

    def role(self, module: Any, name: str) -> str:
        if name.endswith("crossattention.self"):
            return "cross"
        return "decoder" if module.is_decoder else "encoder"


class MegatronBertAdapter(BertAdapter):
    """Megatron-BERT and others with one class for all roles; Transformers has their eager attention only."""

    attention_classes: ClassVar = {
        "megatron-bert": "MegatronBertSelfAttention",
        "rembert": "RemBertSelfAttention",
        "tapas": "TapasSelfAttention",
    }
    is_eager_only: ClassVar = True


class AlbertAdapter(Adapter):
    """ALBERT: an encoder whose layers run several times; residual and norm are within the module."""

    attention_classes: ClassVar = {"albert": "AlbertAttention"}
    query_module: ClassVar = "query"
    key_value_modules: ClassVar = ("key", "value")
    output_projection: ClassVar = "dense"
    head_dim: ClassVar = "attention_head_size"

    def role(self, module: Any, name: str) -> str:
        return "encoder"

    def forward(
        self, module: Any, hidden_states: Tensor, attention_mask: Tensor | None = None, **kwargs: Any
    ) -> tuple[Any, ...]:
        output, weights = super().forward(module, hidden_states, attention_mask=attention_mask, **kwargs)
        return module.LayerNorm(hidden_states + output), weights


class MPNetAdapter(Adapter):
    """MPNet: an encoder with biases on relative positions, as T5 has them; eager attention only."""

    attention_classes: ClassVar = {"mpnet": "MPNetSelfAttention"}
    query_module: ClassVar = "q"
    key_value_modules: ClassVar = ("k", "v")
    output_projection: ClassVar = "o"
    head_dim: ClassVar = "attention_head_size"
    is_eager_only: ClassVar = True

    def role(self, module: Any, name: str) -> str:
        return "encoder"

    def forward(
        self,
        module: Any,
        hidden_states: Tensor,
        attention_mask: Tensor | None = None,
        position_bias: Tensor | None = None,
        **kwargs: Any,
    ) -> tuple[Any, ...]:
        biases = [bias for bias in (attention_mask, position_bias) if bias is not None]
        return super().forward(
            module, hidden_states, attention_mask=sum(biases) if biases else None, **kwargs
        )
