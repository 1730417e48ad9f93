"""What a demo is made from: how much text, which model and tokenizer, how long a training."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nvreg.demo.language import IN_DOMAIN, OUT_OF_DOMAIN

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

RECIPE_VERSION = 3
"""Raised by hand when the same recipe and seed come to give other corpora or another model."""

PAD, END, UNKNOWN, START, MASK = SPECIAL_TOKENS = ("<pad>", "</s>", "<unk>", "<s>", "<mask>")
"""Their ids are 0 to 4."""
PAD_ID, END_ID, START_ID = (SPECIAL_TOKENS.index(token) for token in (PAD, END, START))

POSITIONS = 512
"""Tokens that the models read: the longest sagas have half as many."""

STD = 0.05
"""The deviation of weights at the start: narrow models learn faster from it than from the usual 0.02."""
STD_WITH_POSITIONS = 0.08
"""The same of BART, whose positions are weights too and count for more than those of the others."""


@dataclass(frozen=True)
class Training:
    """A training: AdamW, a linear warm-up and a linear decay to zero."""

    steps: int
    warmup_steps: int = 150
    batch_tokens: int = 800
    learning_rate: float = 2e-3


@dataclass(frozen=True)
class Recipe:
    """Examples of a split (only the in-domain corpus has training examples), size of the model, training.

    Attributes:
        training_examples: In-domain examples to train on; as many texts of all domains for a pretraining.
        validation_examples: The number for each domain.
        test_examples: The number for each domain.
        vocabulary: Tokens.
        width: The size of the model's hidden states.
        feed_forward: The size of the states inside its feed-forward layers.
        layers: The number of layers, in an encoder-decoder model of either half.
        heads: Heads of attention.
        training: How to train on the in-domain training examples.
        pretraining: How to train before it, on unlabelled texts of all domains.
    """

    training: Training
    training_examples: int = 12_000
    validation_examples: int = 200
    test_examples: int = 300
    vocabulary: int = 2000
    width: int = 128
    feed_forward: int = 256
    layers: int = 2
    heads: int = 4
    pretraining: Training | None = None

    def digest(self, task: str, seed: int) -> str:
        """Name everything that a task's demo depends on but the code, for which the version stands."""
        ingredients = (RECIPE_VERSION, task, seed, self, IN_DOMAIN, OUT_OF_DOMAIN)
        return hashlib.sha256(repr(ingredients).encode()).hexdigest()


RECIPES = {
    "translation": Recipe(Training(steps=800)),
    "classification": Recipe(
        Training(steps=700, learning_rate=1e-3),
        validation_examples=400,
        test_examples=600,
        vocabulary=1500,
        pretraining=Training(steps=600, batch_tokens=1600),
    ),
    "language-modelling": Recipe(Training(steps=900), training_examples=8000, vocabulary=1500),
    "summarisation": Recipe(
        Training(steps=1500), validation_examples=150, test_examples=200, vocabulary=1500
    ),
}
"""Task to its recipe, in the order in which they are made."""

FRAMES = {
    "translation": f"$A {END}",
    "classification": f"{START} $A {END}",
    "language-modelling": f"{START} $A",
    "summarisation": f"$A {END}",
}
"""What is put around a text."""


def train_tokenizer(texts: Iterable[str], task: str, vocabulary: int) -> PreTrainedTokenizerFast:
    """Train the byte-pair encoding of a task's model on all texts of its corpus."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE(unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Metaspace(), pre_tokenizers.Punctuation()]
    )
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary, special_tokens=list(SPECIAL_TOKENS), show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    ids = [(token, SPECIAL_TOKENS.index(token)) for token in (START, END)]
    tokenizer.post_processor = processors.TemplateProcessing(single=FRAMES[task], special_tokens=ids)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        eos_token=END,
        unk_token=UNKNOWN,
        bos_token=START,
        mask_token=MASK,
        model_max_length=POSITIONS,
    )


def _marian(recipe: Recipe) -> PreTrainedModel:
    from transformers import MarianConfig, MarianMTModel

    config = MarianConfig(
        **_two_stacks(recipe, STD), activation_function="relu", decoder_start_token_id=PAD_ID
    )
    return MarianMTModel(config)


def _bert(recipe: Recipe) -> PreTrainedModel:
    """Return an encoder that guesses masked tokens, the only model with dropout: Transformers' usual 0.1."""
    from transformers import BertConfig, BertForMaskedLM

    return BertForMaskedLM(BertConfig(**_one_stack(recipe), type_vocab_size=1))


def _llama(recipe: Recipe) -> PreTrainedModel:
    """Return a language model in which two heads of queries share one of keys."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        **_one_stack(recipe),
        num_key_value_heads=recipe.heads // 2,
        bos_token_id=START_ID,
        eos_token_id=END_ID,
        tie_word_embeddings=True,
    )
    return LlamaForCausalLM(config)


def _bart(recipe: Recipe) -> PreTrainedModel:
    from transformers import BartConfig, BartForConditionalGeneration

    stacks = _two_stacks(recipe, STD_WITH_POSITIONS)
    config = BartConfig(**stacks, bos_token_id=START_ID, decoder_start_token_id=END_ID)
    return BartForConditionalGeneration(config)


UNTRAINED: dict[str, Callable[[Recipe], PreTrainedModel]] = {
    "translation": _marian,
    "classification": _bert,  # to be pretrained before it gets classes
    "language-modelling": _llama,
    "summarisation": _bart,
}
"""Task to what makes its model, another architecture for each."""


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
