"""OPT's attention: BART's decoder self-attention alone, the query scaled before the product."""

from __future__ import annotations

from typing import Any, ClassVar

from nvreg.models.layouts.bart import BartAdapter


class OPTAdapter(BartAdapter):
    """OPT and BioGPT; the fast form takes the unscaled query of either (docs/method.md, section 2)."""

    attention_classes: ClassVar = {"opt": "OPTAttention", "biogpt": "BioGptAttention"}

    def role(self, module: Any, name: str) -> str:
        return "decoder"
