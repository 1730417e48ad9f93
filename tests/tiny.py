"""A translation model, its tokenizer and a corpus: tiny, and the same on every machine."""

import json
from pathlib import Path

import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from tokenizers.processors import TemplateProcessing
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    BertForTokenClassification,
    GPT2Config,
    GPT2LMHeadModel,
    MarianConfig,
    MarianMTModel,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    set_seed,
)

LEXICON = {
    "a": "ein",
    "small": "klein",
    "big": "groß",
    "red": "rot",
    "cat": "Kater",
    "dog": "Hund",
    "bird": "Fink",
    "sees": "sieht",
    "likes": "mag",
    "hears": "hört",
    "house": "Haus",
    "tree": "Baum",
    ".": ".",
}
PAD, EOS, UNK = "<pad>", "</s>", "<unk>"


def tiny_marian(seed: int = 0) -> tuple[MarianMTModel, PreTrainedTokenizerFast]:
    """An untrained Marian in eval mode (width 32, 4 heads, 2 + 2 layers, 128 positions) and a word tokenizer.

    What it generates is nonsense, but differs from sentence to sentence in words and length.
    """
    words = dict.fromkeys((PAD, EOS, UNK, *LEXICON, *LEXICON.values()))
    vocabulary = {word: index for index, word in enumerate(words)}
    backend = Tokenizer(WordLevel(vocabulary, unk_token=UNK))
    backend.pre_tokenizer = WhitespaceSplit()
    backend.post_processor = TemplateProcessing(single=f"$A {EOS}", special_tokens=[(EOS, vocabulary[EOS])])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token=PAD, eos_token=EOS, unk_token=UNK, model_max_length=128
    )
    config = MarianConfig(
        vocab_size=len(vocabulary),
        d_model=32,
        encoder_layers=2,
        decoder_layers=2,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        encoder_ffn_dim=64,
        decoder_ffn_dim=64,
        max_position_embeddings=128,
        pad_token_id=vocabulary[PAD],
        eos_token_id=vocabulary[EOS],
        forced_eos_token_id=vocabulary[EOS],
        decoder_start_token_id=vocabulary[PAD],
        scale_embedding=True,
        tie_word_embeddings=False,
    )
    model = MarianMTModel(config).eval()
    english = [vocabulary[word] for word in LEXICON.keys() - LEXICON.values()]
    model.final_logits_bias[0, english] = -9.0
    model.final_logits_bias[0, vocabulary[EOS]] = 1.0
    generator = torch.Generator().manual_seed(seed + 1)
    with torch.no_grad():
        for name, weight in sorted(model.named_parameters()):
            if weight.requires_grad and weight.ndim == 2:
                std = 0.4 if "embed_tokens" in name else 0.3 if "lm_head" in name else 0.15
                weight.normal_(std=std, generator=generator)
    return model, tokenizer


def word_tokenizer(template: str = "$A", pair: str | None = None, limit: int = 64) -> PreTrainedTokenizerFast:
    """A word tokenizer with the special tokens of tests/models/architectures.py, and <unk> and <mask>.

    It puts a text into the template, as in "<s> $A </s>", and two into ``pair``, as in "$A $B:1".
    """
    special = {PAD: 0, "<s>": 1, EOS: 2, UNK: 3, "<mask>": 4}
    words = [*special, *dict.fromkeys([*LEXICON, *LEXICON.values()])]
    backend = Tokenizer(WordLevel({word: index for index, word in enumerate(words)}, unk_token=UNK))
    backend.pre_tokenizer = WhitespaceSplit()
    backend.post_processor = TemplateProcessing(
        single=template, pair=pair or "$A $B", special_tokens=list(special.items())
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token=PAD,
        bos_token="<s>",
        eos_token=EOS,
        unk_token=UNK,
        mask_token="<mask>",
        model_max_length=limit,
        model_input_names=["input_ids", "attention_mask", *(["token_type_ids"] if pair else [])],
    )


TAGS = ["O", "B-pet", "I-pet"]


def tiny_model(task: str, tokens: int) -> PreTrainedModel:
    """An untrained model of 2 layers with the head for a task that is not sequence-to-sequence."""
    set_seed(0)
    if "classification" in task:
        config = BertConfig(
            vocab_size=tokens,
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=4,
            intermediate_size=64,
        )
        if task == "token-classification":
            config.id2label = dict(enumerate(TAGS))
            return BertForTokenClassification(config)
        config.id2label = {0: "good", 1: "bad"}
        return BertForSequenceClassification(config)
    return GPT2LMHeadModel(GPT2Config(vocab_size=tokens, n_embd=32, n_layer=2, n_head=4, n_positions=64))


def write_corpus(directory: Path) -> Path:
    """Write DOMAIN/SPLIT.jsonl, columns "en" and "de": home has train, validation, test; away the last two.

    Word-for-word pairs of 2 to 9 words; 12 training and 8 other pairs a file. Returns the directory.
    """
    english = list(LEXICON)
    generator = torch.Generator().manual_seed(0)
    for domain, split, pairs in (
        ("home", "train", 12),
        ("home", "validation", 8),
        ("home", "test", 8),
        ("away", "validation", 8),
        ("away", "test", 8),
    ):
        path = Path(directory, domain, f"{split}.jsonl")
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w", encoding="utf-8") as file:
            for _ in range(pairs):
                length = int(torch.randint(2, 10, (), generator=generator))
                words = [english[i] for i in torch.randint(len(english), (length,), generator=generator)]
                pair = {"en": " ".join(words), "de": " ".join(LEXICON[word] for word in words)}
                file.write(json.dumps(pair, ensure_ascii=False) + "\n")
    return Path(directory)
