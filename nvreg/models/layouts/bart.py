"""BART's attention: separate biased projections; one class for encoder, cross- and decoder attention."""

from __future__ import annotations

from typing import Any, ClassVar

from nvreg.models.adapter import Adapter

_CROSS = ("encoder_attn", "cross_attention")
"""What modules of cross-attention are called."""


class BartAdapter(Adapter):
    """BART and the models that copy its attention class, nearly word for word.

    Whisper scales the query before the product, as OPT does; its encoder attends to sound.
    """

    attention_classes: ClassVar = {
        "bart": "BartAttention",
        "mbart": "MBartAttention",
        "marian": "MarianAttention",
        "pegasus": "PegasusAttention",
        "blenderbot": "BlenderbotAttention",
        "blenderbot-small": "BlenderbotSmallAttention",
        "m2m_100": "M2M100Attention",
        "plbart": "PLBartAttention",
        "nllb-moe": "NllbMoeAttention",
        "whisper": "WhisperAttention",
    }

    def role(self, module: Any, name: str) -> str:
        if not module.is_decoder:
            return "encoder"
        return "cross" if name.endswith(_CROSS) else "decoder"


class XGLMAdapter(BartAdapter):
    """XGLM and MVP; Transformers has their eager attention only."""

    attention_classes: ClassVar = {"xglm": "XGLMAttention", "mvp": "MvpAttention"}
    refused_options: ClassVar = {"use_prompt": "keys and values are learned too, as prompts"}
    is_eager_only: ClassVar = True


class OPTAdapter(BartAdapter):
    """OPT and BioGPT: BART's decoder self-attention alone, the query scaled before the product.

    The fast form takes the unscaled query of either (docs/method.md, section 2).
    """

    attention_classes: ClassVar = {"opt": "OPTAttention", "biogpt": "BioGptAttention"}

    def role(self, module: Any, name: str) -> str:
        return "decoder"
