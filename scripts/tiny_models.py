"""A tiny model of every model type, from the defaults of its config, every size in them made small."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Mapping
from typing import Any

import torch
import transformers
from transformers import CONFIG_MAPPING, PreTrainedConfig, PreTrainedModel
from transformers.models.auto import modeling_auto

from nvreg.models.architectures import WITH

HEADS: Mapping[str, Mapping[str, str]] = {
    "causal": modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    "classification": modeling_auto.MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES,
    "masked": modeling_auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES,
    "sequence-to-sequence": modeling_auto.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES,
}
"""Text head to the model types that Transformers has it for, and their classes."""

VOCABULARY = 64
TOKENS = 40
"""How many tokens are words; the vocabulary's others are what a config names as special."""

LARGEST = 4_000_000
"""How many weights a model may have to be called tiny."""

SIZES: Mapping[str, int] = {
    r"(num_|n_|encoder_|decoder_|num_encoder_|num_decoder_|num_hidden_)?(hidden_)?layers?": 2,
    r"(t2u|speech)_(en|de)coder_layers|depth|num_(residual|lstm|adapter)_layers|num_blocks": 2,
    r"n_layer|num_(en|de)coder_layers|num_sparse_(en|de)coder_layers|num_global_layers": 2,
    r".*(attention_heads?|num_heads|n_heads?)|.*mamba_n_heads|mamba_num_heads|num_query_groups": 4,
    r".*(num_key_value_heads|num_kv_heads|kv_n_heads)": 2,
    r"hidden_size|d_model|n_embd|dim|emb_dim|embedding_size|.*_hidden_size|hidden_dim|embedding_dim": 32,
    r".*intermediate_size.*|.*ffn_dim|.*ffn_hidden_size|d_ff|dff|dim_ff|mlp_dim|d_inner": 32,
    "feed_forward_size": 32,
    "qk_head_dim": 16,
    r"head_dim|.*_head_dim|d_kv|dim_head|attention_head_size|d_head|kv_channels|linear_head_dim": 8,
    r"mamba_headdim": 16,
    r"(q|kv|o)_lora_rank|.*_lora_rank|adapter_rank|laurel_rank|embedding_rank|hc_lowrank": 8,
    r".*vocab_size.*|encoder_hash_byte_group_vocab": VOCABULARY,
    r".*position_embeddings|n_positions|n_ctx|max_seq_len|.*(source|target)_positions|context_length": 64,
    r"model_max_length|max_length|mem_len": 64,
    r"sliding_window|sliding_window_size|local_attention|attention_window_size|attention_chunk_size": 4,
    r"num_(local_|routed_)?experts|n_routed_experts|moe_num_experts|zero_expert_num": 4,
    r".*experts_per_tok(en)?|moe_top_?k|moe_k": 2,
    r"n_group|topk_group|num_expert_group|n_groups|o_groups": 1,
    r"mamba_d_state|state_size|ssm_state_size": 8,
    r".*chunk_size|index_topk": 8,
    r"lru_width|d_latents": 32,
    r"codebook_size": VOCABULARY,
}
"""Names of a config's numbers, as regular expressions, to what they are at most."""

SPECIAL = re.compile(r".*(token_id|token_index|_index|unk_index|pad_id)")
"""What the numbers of special tokens are called."""

_LATENT_EXPERTS = {"n_group": 1, "topk_group": 1, "n_routed_experts": 4, "num_experts_per_tok": 2}
_ROPE = {"rope_type": "default", "rope_theta": 10_000.0}
_DOTS3 = {"head_dim": 32, "qk_nope_head_dim": 16, "per_layer_config": {2: {"qk_nope_head_dim": 24}}}
_QWEN4 = {
    "indexer_n_heads": 2,
    "indexer_kv_heads": 1,
    "indexer_head_dim": 8,
    "indexer_budget": 8,
    "indexer_compress_ratio": 2,
    "ngram_vocab_size_base": 64,
}
_TOKENIZER = {"num_filters": 4, "downsampling_ratios": [2, 2], "depths": [1, 1, 1]}

OWN: Mapping[str, Mapping[str, Any]] = {
    "bamba": {"mamba_n_heads": 8, "mamba_d_head": 8, "attn_layer_indices": [1]},
    "codegen": {"rotary_dim": 4},
    "cohere_compass_text": {"rope_parameters": {"full_attention": _ROPE, "sliding_attention": _ROPE}},
    "blt": {
        "num_hidden_layers": 2,
        "encoder_config": {"hidden_size_global": 32},
        "decoder_config": {"hidden_size_global": 32},
    },
    "dbrx": {"attn_config": {"rope_theta": 10_000.0, "clip_qkv": 8.0}},
    "deepseek_v2": _LATENT_EXPERTS,
    "dots1": {**_LATENT_EXPERTS, "n_shared_experts": 1},
    "dots3_note": {
        "text_config": _DOTS3,
        "audio_config": {"adapter_input_size": 32, "adapter_out_dim": 32},
        "vision_config": {"adapter_in_dim": 32, "adapter_out_dim": 32},
    },
    "dots3_note_text": _DOTS3,
    "esm": {
        "vocab_size": VOCABULARY,
        "pad_token_id": 0,
        "mask_token_id": 4,
        "position_embedding_type": "rotary",
    },
    "falcon_h1": {"mamba_n_heads": 8, "mamba_d_head": 8, "mamba_d_ssm": 64},
    "gemma3n_text": {
        "num_hidden_layers": 4,
        "layer_types": ["sliding_attention", "full_attention"] * 2,
        "num_kv_shared_layers": 2,
        "intermediate_size": [32] * 4,
        "activation_sparsity_pattern": [0.5, 0.0, 0.0, 0.0],
    },
    "gptj": {"rotary_dim": 4},
    "granitemoehybrid": {"mamba_n_heads": 8, "mamba_d_head": 8, "layer_types": ["mamba", "attention"]},
    "hrm_text": {"num_layers_per_stack": 1, "num_hidden_layers": 8},
    "hunyuan_v1_dense": {"head_dim": 8},
    "hunyuan_v1_moe": {"head_dim": 8},
    "jamba": {"attn_layer_period": 2, "attn_layer_offset": 1},
    "layoutlmv3": {"coordinate_size": 6, "shape_size": 4},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"]},
    "led": {"attention_window": 4},
    "lilt": {"hidden_size": 48},
    "mamba2": {"num_heads": 8},
    "ministral": {"head_dim": 8},
    "mistral4": {"head_dim": 16},
    "mllama": {"text_config": {"num_hidden_layers": 4, "cross_attention_layers": [1, 3]}},
    "mobilebert": {"true_hidden_size": 32, "intra_bottleneck_size": 32},
    "nemotron": {"head_dim": 8, "num_key_value_heads": 2},
    "neomme": {"rope_parameters": {"full_attention": {"partial_rotary_factor": 0.5}}},
    "qwen4_exp": {"text_config": _QWEN4},
    "qwen4_exp_text": _QWEN4,
    "recurrent_gemma": {"num_hidden_layers": 3},
    "reformer": {
        "axial_pos_shape": [8, 8],
        "axial_pos_embds_dim": [16, 16],
        "attn_layers": ["local", "lsh"],
        "num_buckets": 2,
    },
    "vibevoice_asr": {
        "acoustic_tokenizer_chunk_size": 4,
        "acoustic_tokenizer_encoder_config": _TOKENIZER,
        "semantic_tokenizer_encoder_config": _TOKENIZER,
    },
    "xlstm": {"num_blocks": 2},
    "xmod": {"default_language": "en_XX"},
    "zamba": {
        "attention_hidden_size": 64,
        "attention_head_dim": 16,
        "num_hidden_layers": 5,
        "layers_block_type": ["linear_attention", "linear_attention", "hybrid", "linear_attention", "hybrid"],
    },
    "zamba2": {
        "attention_hidden_size": 64,
        "attention_head_dim": 16,
        "mamba_headdim": 8,
        "hybrid_layer_ids": [1],
    },
}
"""What some model types need otherwise."""

UNTRIED: Mapping[str, str] = {
    "gemma4_assistant": "it reads the keys of another model",
    "gemma4_unified_assistant": "it reads the keys of another model",
    "musicgen": "its decoder reads codes of sound instead of text",
    "musicgen_melody": "its decoder reads codes of sound instead of text",
    "voxtral_realtime": "it reads sound beside every token of text",
}
"""Model types that text alone does not run, and why."""


def tiny_config(model_type: str) -> PreTrainedConfig:
    """Return the config of a tiny model."""
    own = OWN.get(model_type, {})
    try:
        whole = CONFIG_MAPPING[model_type]()
    except ValueError:  # the defaults do not go together
        whole = CONFIG_MAPPING[model_type](**own)
    return type(whole).from_dict(_merged(_shrunk(whole.to_dict()), own))


def _merged(values: Mapping[str, Any], others: Mapping[str, Any]) -> dict[str, Any]:
    """Return a nested mapping in which what others say goes before."""
    made = dict(values)
    for name, value in others.items():
        inner = made.get(name)
        made[name] = (
            _merged(inner, value) if isinstance(inner, dict) and isinstance(value, Mapping) else value
        )
    return made


def _shrunk(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of a config with small sizes, those of its parts too."""
    made = dict(values)
    layers = next((values[name] for name in _LAYERS if values.get(name)), None)
    picks = list(_picked(values, layers))
    specials = iter(range(VOCABULARY - 1, TOKENS, -1))
    for name, value in values.items():
        if _is_by_layer(name, value):
            by_layer = {int(layer): entries for layer, entries in value.items()}
            made[name] = {at: _shrunk(by_layer[pick]) for at, pick in enumerate(picks) if pick in by_layer}
        elif isinstance(value, dict) and name not in _LABELS:
            made[name] = _shrunk(value)
        elif isinstance(value, list) and len(value) == layers:
            made[name] = [value[pick] for pick in picks]
            if all(type(each) is int for each in value):
                made[name] = [_small(name, each) for each in made[name]]
        elif isinstance(value, int) and not isinstance(value, bool):
            if SPECIAL.fullmatch(name) and value >= TOKENS:
                made[name] = next(specials)
            elif name in _LAYERS:
                made[name] = len(picks)
            else:
                made[name] = _small(name, value)
    for name, value in values.items():
        if re.fullmatch(r".*num_key_value_heads", name) and value:
            heads = name.replace("key_value", "attention")
            made[name] = made.get(heads) if value == values.get(heads) else min(value, 2)
    return made


_LAYERS = ("num_hidden_layers", "num_layers")
_LABELS = ("id2label", "label2id")


def _is_by_layer(name: str, value: Any) -> bool:
    """Whether a value has entries by the number of a layer."""
    return (
        isinstance(value, dict)
        and bool(value)
        and name not in _LABELS
        and all(str(key).isdigit() for key in value)
    )


def _small(name: str, value: int) -> int:
    """Return what a number of some name is in a tiny model."""
    for pattern, size in SIZES.items():
        if re.fullmatch(pattern, name):
            return min(value, size)
    return value


def _picked(values: Mapping[str, Any], layers: int | None) -> Iterator[int]:
    """Yield which layers are kept: one of each kind that the config tells apart, and two at least."""
    if layers is None:
        return
    kinds: list[str] = [""] * layers
    for name, value in values.items():
        if isinstance(value, list) and len(value) == layers and all(isinstance(each, str) for each in value):
            kinds = [f"{kind} {each}" for kind, each in zip(kinds, value, strict=True)]
        elif _is_by_layer(name, value):
            by_layer = {int(layer): entries for layer, entries in value.items()}
            kinds = [f"{kind} {by_layer.get(layer)}" for layer, kind in enumerate(kinds)]
    first = dict(reversed([(kind, layer) for layer, kind in enumerate(kinds)]))
    chosen = sorted(first.values())
    others = [layer for layer in range(layers) if layer not in chosen]
    yield from sorted(chosen + others[: max(0, 2 - len(chosen))])


def tiny_model(name: str, head: str) -> PreTrainedModel:
    """Return a tiny model of a type, or of a type with an option, in evaluation mode, its weights random.

    Raises:
        ImportError: if Transformers needs another library for it.
        ValueError: if it does not get small.
    """
    model_type, _, option = name.partition(WITH)
    config: Any = tiny_config(model_type)
    if option:
        setattr(config, option, 1.0 if "clip" in option else True)
    kind: Any = getattr(transformers, HEADS[head][model_type])
    if not isinstance(config, kind.config_class):
        config = config.get_text_config(decoder=True)
    if head == "causal" and hasattr(config, "is_decoder") and not config.is_encoder_decoder:
        config.is_decoder = True
    if config.is_encoder_decoder and getattr(config, "decoder_start_token_id", None) is None:
        config.decoder_start_token_id = 1
    if head == "classification" and getattr(config.get_text_config(), "pad_token_id", None) is None:
        config.get_text_config().pad_token_id = 0
        config.pad_token_id = 0
    with torch.device("meta"):
        weights = sum(parameter.numel() for parameter in kind(copy.deepcopy(config)).parameters())
    if weights > LARGEST:
        raise ValueError(f"{weights:,} weights are left")
    config._experts_implementation = "eager"
    return kind(config).eval()
