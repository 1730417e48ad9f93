"""The models that are timed: common layouts at about 60 M parameters, with random weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import transformers
from transformers import AutoConfig, PreTrainedModel

import nvreg

VOCABULARY = 8000

SHAPES: Mapping[str, tuple[str, str, dict[str, Any]]] = {
    "bart": (
        "bart",
        "BartForConditionalGeneration",
        {
            "d_model": 768,
            "encoder_layers": 3,
            "decoder_layers": 3,
            "encoder_attention_heads": 12,
            "decoder_attention_heads": 12,
            "encoder_ffn_dim": 3072,
            "decoder_ffn_dim": 3072,
            "max_position_embeddings": 2304,
            "forced_eos_token_id": None,
        },
    ),
    "bert": (
        "bert",
        "BertForMaskedLM",
        {
            "hidden_size": 768,
            "num_hidden_layers": 7,
            "num_attention_heads": 12,
            "intermediate_size": 3072,
            "max_position_embeddings": 2304,
        },
    ),
    "gpt2": ("gpt2", "GPT2LMHeadModel", {"n_embd": 768, "n_layer": 7, "n_head": 12, "n_positions": 2304}),
    "t5": (
        "t5",
        "T5ForConditionalGeneration",
        {"d_model": 768, "d_kv": 64, "d_ff": 3072, "num_layers": 3, "num_decoder_layers": 3, "num_heads": 12},
    ),
    "llama": (
        "llama",
        "LlamaForCausalLM",
        {
            "hidden_size": 768,
            "num_hidden_layers": 8,
            "num_attention_heads": 12,
            "num_key_value_heads": 4,
            "intermediate_size": 2048,
            "max_position_embeddings": 2304,
        },
    ),
}
"""Name to model type, class and what differs from the type's default config."""

SETTINGS = {
    "tau_sigma = 0": nvreg.Settings(tau_alpha=1.0),
    "tau_sigma > 0": nvreg.Settings(tau_alpha=1.0, tau_sigma=0.3),
}


def build(name: str, dtype: torch.dtype, device: str = "cpu") -> PreTrainedModel:
    """Return the model of a shape, unconverted, under SDPA, in evaluation mode."""
    model_type, model_class, options = SHAPES[name]
    config = AutoConfig.for_model(
        model_type, vocab_size=VOCABULARY, pad_token_id=0, eos_token_id=1, decoder_start_token_id=0, **options
    )
    config._attn_implementation = "sdpa"
    torch.manual_seed(0)
    return getattr(transformers, model_class)(config).to(device, dtype).eval()


def tokens(rows: int, length: int) -> torch.Tensor:
    """Return random token ids without padding."""
    return torch.randint(3, VOCABULARY, (rows, length), generator=torch.Generator().manual_seed(length))
