"""DistilBERT's attention: encoder only, output projection included."""

from __future__ import annotations

from typing import Any, ClassVar

from nvreg.models.adapter import Adapter


class DistilBertAdapter(Adapter):
    """DistilBERT."""

    attention_classes: ClassVar = {"distilbert": "DistilBertSelfAttention"}
    query_module: ClassVar = "q_lin"
    key_value_modules: ClassVar = ("k_lin", "v_lin")
    output_projection: ClassVar = "out_lin"
    head_dim: ClassVar = "attention_head_size"

    def role(self, module: Any, name: str) -> str:
        return "encoder"
