"""The models of the demo, untrained: another architecture for each task."""

from __future__ import annotations

from typing import Any

from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    BertConfig,
    BertForMaskedLM,
    LlamaConfig,
    LlamaForCausalLM,
    MarianConfig,
    MarianMTModel,
    PreTrainedModel,
)

from nvreg.demo.recipe import Recipe
from nvreg.demo.tokenizer import END, PAD, POSITIONS, SPECIAL_TOKENS, START

PAD_ID, END_ID, START_ID = (SPECIAL_TOKENS.index(token) for token in (PAD, END, START))
STD = 0.05
"""Of weights at the start: narrow models learn faster from it than from the usual 0.02."""
STD_WITH_POSITIONS = 0.08
"""Of BART's: its positions are weights too, and count for more than those of the others."""


def marian(recipe: Recipe) -> PreTrainedModel:
    """Return a translator."""
    config = MarianConfig(
        **_two_stacks(recipe, STD), activation_function="relu", decoder_start_token_id=PAD_ID
    )
    return MarianMTModel(config)


def bart(recipe: Recipe) -> PreTrainedModel:
    """Return a summariser."""
    stacks = _two_stacks(recipe, STD_WITH_POSITIONS)
    config = BartConfig(**stacks, bos_token_id=START_ID, decoder_start_token_id=END_ID)
    return BartForConditionalGeneration(config)


def bert(recipe: Recipe) -> PreTrainedModel:
    """Return an encoder that guesses masked tokens, the only model with dropout: Transformers' usual 0.1."""
    return BertForMaskedLM(BertConfig(**_one_stack(recipe), type_vocab_size=1))


def llama(recipe: Recipe) -> PreTrainedModel:
    """Return a language model in which two heads of queries share one of keys."""
    config = LlamaConfig(
        **_one_stack(recipe),
        num_key_value_heads=recipe.heads // 2,
        bos_token_id=START_ID,
        eos_token_id=END_ID,
        tie_word_embeddings=True,
    )
    return LlamaForCausalLM(config)


def _two_stacks(recipe: Recipe, std: float) -> dict[str, Any]:
    halves = {
        f"{half}_{name}": value
        for half in ("encoder", "decoder")
        for name, value in {
            "layers": recipe.layers,
            "attention_heads": recipe.heads,
            "ffn_dim": recipe.feed_forward,
        }.items()
    }
    return {
        **_common(recipe),
        **halves,
        "d_model": recipe.width,
        "init_std": std,
        "scale_embedding": True,
        "dropout": 0.0,
        "eos_token_id": END_ID,
        "forced_eos_token_id": END_ID,
    }


def _one_stack(recipe: Recipe) -> dict[str, Any]:
    return {
        **_common(recipe),
        "hidden_size": recipe.width,
        "intermediate_size": recipe.feed_forward,
        "num_hidden_layers": recipe.layers,
        "num_attention_heads": recipe.heads,
        "initializer_range": STD,
    }


def _common(recipe: Recipe) -> dict[str, Any]:
    return {
        "vocab_size": recipe.vocabulary,
        "max_position_embeddings": POSITIONS,
        "pad_token_id": PAD_ID,
    }
