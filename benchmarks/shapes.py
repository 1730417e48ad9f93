"""The models that are timed: common layouts at about 60 M parameters, with random weights."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
import transformers
from transformers import AutoConfig, PreTrainedModel

import nvreg
from nvreg.digests import body_digest
from nvreg.models.site import Space

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
    "llama-1b": (
        "llama",
        "LlamaForCausalLM",
        {
            "hidden_size": 2048,
            "num_hidden_layers": 16,
            "num_attention_heads": 32,
            "num_key_value_heads": 8,
            "intermediate_size": 8192,
            "max_position_embeddings": 2304,
        },
    ),
}
"""Name to model type, class and what differs from the type's default config."""

ON_CPU = ["bart", "bert", "gpt2", "t5", "llama"]
"""Those of about 60 M parameters, which a CPU times too."""

LONGEST = {"max_position_embeddings": 8448, "n_positions": 8448}
"""Positions on a GPU, which times longer texts, by what configs call them."""

METHODS: Mapping[str, Space] = {"nv": "inputs", "nv-heads": "heads"}
"""Name of a sweep's method to the space that it converts in."""

SETTINGS = {
    "tau_sigma = 0": nvreg.Settings(tau_alpha=1.0),
    "tau_sigma > 0": nvreg.Settings(tau_alpha=1.0, tau_sigma=0.3),
}


def build(name: str, dtype: torch.dtype, device: str = "cpu") -> PreTrainedModel:
    """Return the model of a shape, unconverted, under SDPA, in evaluation mode."""
    model_type, model_class, options = SHAPES[name]
    if device != "cpu":
        options = {key: LONGEST.get(key, value) for key, value in options.items()}
    config = AutoConfig.for_model(
        model_type, vocab_size=VOCABULARY, pad_token_id=0, eos_token_id=1, decoder_start_token_id=0, **options
    )
    config._attn_implementation = "sdpa"
    torch.manual_seed(0)
    return getattr(transformers, model_class)(config).to(device, dtype).eval()


def with_the_weights_of(model: PreTrainedModel) -> PreTrainedModel:
    """Return a copy of a model that reads the same weights in memory, as where they lie decides how fast."""
    shared = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
    return copy.deepcopy(model, shared)


def prior_of(model: PreTrainedModel, method: str) -> nvreg.Prior:
    """Return a prior that conversion finds to be the model's, in the space of a method of `METHODS`."""
    if METHODS[method] == "inputs":
        return nvreg.Prior(nvreg.Prior.gaussian(model), model=body_digest(model))
    ids = tokens(2, 64)
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    if model.config.is_encoder_decoder:
        batch["labels"] = ids
    estimated = nvreg.estimate_prior(model, [batch], space="heads")
    # Nobody is to be warned that texts are longer: they are timed, not scored.
    moments = {site: replace(each, longest=0) for site, each in estimated.items()}
    return nvreg.Prior(moments, model=estimated.model)


def tokens(rows: int, length: int) -> torch.Tensor:
    """Return random token ids without padding."""
    return torch.randint(3, VOCABULARY, (rows, length), generator=torch.Generator().manual_seed(length))
