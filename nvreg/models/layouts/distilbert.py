"""DistilBERT's attention: encoder only, output projection included."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor

from nvreg.attention.fused import Projection
from nvreg.models.adapter import Adapter, is_eager, projection, split_heads


class DistilBertAdapter(Adapter):
    """DistilBERT."""

    attention_classes: ClassVar = {"distilbert": "DistilBertSelfAttention"}
    key_value_modules: ClassVar = ("k_lin", "v_lin")
    output_projection: ClassVar = "out_lin"

    def role(self, module: Any, name: str) -> str:
        return "encoder"

    def scale(self, module: Any) -> float:
        return module.scaling

    def width(self, module: Any) -> int:
        return module.dim

    def projections(self, module: Any) -> tuple[Projection, Projection]:
        return projection(module.k_lin, module.n_heads), projection(module.v_lin, module.n_heads)

    def key_input(self, hidden_states: Tensor, **_: Any) -> Tensor:
        return hidden_states

    def forward(
        self,
        module: Any,
        hidden_states: Tensor,
        attention_mask: Tensor | None = None,
        *,
        is_causal: bool,
        **_: Any,
    ) -> tuple[Tensor, Tensor | None]:
        means, bias = module.nv.token_components(hidden_states)
        output, weights = module.nv.attend(
            split_heads(module.q_lin(hidden_states), module.attention_head_size),
            split_heads(module.k_lin(means), module.attention_head_size),
            split_heads(module.v_lin(means), module.attention_head_size),
            bias,
            attention_mask,
            is_causal=is_causal,
            need_weights=is_eager(module.config),
        )
        return module.out_lin(output), weights
