"""A tokenizer and a small Marian model, trained on sentence pairs."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from torch import Tensor
from torch.nn import functional as F
from torch.nn.utils import clip_grad_norm_
from transformers import (
    MarianConfig,
    MarianMTModel,
    PreTrainedTokenizerFast,
    get_linear_schedule_with_warmup,
)

from nvreg.data import batches, model_inputs, pad
from nvreg.demo.corpus import Pair
from nvreg.demo.recipe import Recipe
from nvreg.models.tokens import IGNORED

PAD, EOS, UNK = SPECIAL_TOKENS = ("<pad>", "</s>", "<unk>")
"""Their ids are 0, 1 and 2."""
LONGEST = 256
"""Tokens in either language: the longest sagas have about a third as many."""


def train_tokenizer(pairs: Sequence[Pair], vocabulary: int) -> PreTrainedTokenizerFast:
    """Train byte-pair encoding on both languages; a sequence ends in ``</s>``."""
    tokenizer = Tokenizer(models.BPE(unk_token=UNK))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Metaspace(), pre_tokenizers.Punctuation()]
    )
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary, special_tokens=list(SPECIAL_TOKENS), show_progress=False
    )
    tokenizer.train_from_iterator((side for pair in pairs for side in pair.values()), trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single=f"$A {EOS}", special_tokens=[(EOS, 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token=PAD, eos_token=EOS, unk_token=UNK, model_max_length=LONGEST
    )


def train_translator(
    pairs: Sequence[Pair],
    tokenizer: PreTrainedTokenizerFast,
    recipe: Recipe,
    seed: int,
    advance: Callable[[float], None],
) -> MarianMTModel:
    """Train a translator from scratch; ``advance`` is called with the loss after each step.

    Equal arguments give equal weights on the same machine, however many cores are free.
    """
    with _reproducible(seed):
        model = _new_model(recipe, len(tokenizer)).train()
        optimizer = torch.optim.AdamW(model.parameters(), lr=recipe.learning_rate, betas=(0.9, 0.98))
        schedule = get_linear_schedule_with_warmup(optimizer, recipe.warmup_steps, recipe.steps)
        stream = _shuffled_batches(_encode(pairs, tokenizer), recipe.batch_tokens, random.Random(seed))
        for batch in islice(stream, recipe.steps):
            loss = _loss(model, batch, recipe.label_smoothing)
            loss.backward()
            clip_grad_norm_(model.parameters(), max_norm=1.0)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
            advance(loss.item())
    return model.eval()


@torch.inference_mode()
def validation_loss(model: MarianMTModel, tokenizer: PreTrainedTokenizerFast, pairs: Sequence[Pair]) -> float:
    """Return the mean negative log-likelihood of a target token, in nats."""
    return _loss(model, _batch(_encode(pairs, tokenizer)), label_smoothing=0.0).item()


@contextmanager
def _reproducible(seed: int) -> Iterator[None]:
    """Seed PyTorch and keep it to one thread; afterwards it is as it was.

    The order of sums depends on the number of threads, and with batches this small a second one gains little,
    less than nothing when other work wants the cores.
    """
    threads = torch.get_num_threads()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        torch.set_num_threads(1)
        try:
            yield
        finally:
            torch.set_num_threads(threads)


def _new_model(recipe: Recipe, vocabulary: int) -> MarianMTModel:
    pad_id, eos_id, _ = range(len(SPECIAL_TOKENS))
    config = MarianConfig(
        vocab_size=vocabulary,
        max_position_embeddings=LONGEST,
        d_model=recipe.width,
        encoder_layers=recipe.layers,
        decoder_layers=recipe.layers,
        encoder_attention_heads=recipe.heads,
        decoder_attention_heads=recipe.heads,
        encoder_ffn_dim=recipe.feed_forward,
        decoder_ffn_dim=recipe.feed_forward,
        dropout=0.0,
        init_std=0.05,
        activation_function="relu",
        scale_embedding=True,
        pad_token_id=pad_id,
        eos_token_id=eos_id,
        forced_eos_token_id=eos_id,
        decoder_start_token_id=pad_id,
    )
    return MarianMTModel(config)


Ids = tuple[list[int], list[int]]
"""Token ids of a source and of its target."""


def _encode(pairs: Sequence[Pair], tokenizer: PreTrainedTokenizerFast) -> list[Ids]:
    sources, targets = (
        tokenizer([pair[side] for pair in pairs])["input_ids"] for side in ("source", "target")
    )
    return list(zip(sources, targets, strict=True))


def _batch(examples: Sequence[Ids]) -> dict[str, Tensor]:
    sources, targets = zip(*examples, strict=True)
    return {**model_inputs(sources, pad_token_id=0), "labels": pad(targets, IGNORED)}


def _shuffled_batches(examples: list[Ids], tokens: int, rng: random.Random) -> Iterator[dict[str, Tensor]]:
    """Yield batches of similar length, at most ``tokens`` padded tokens a side, epoch after epoch."""
    while True:
        rng.shuffle(examples)
        groups = batches([max(map(len, example)) for example in examples], tokens)
        rng.shuffle(groups)
        for group in groups:
            yield _batch([examples[index] for index in group])


def _loss(model: MarianMTModel, batch: dict[str, Tensor], label_smoothing: float) -> Tensor:
    labels = batch.pop("labels")
    shifted = model.prepare_decoder_input_ids_from_labels(labels)
    logits = model(**batch, decoder_input_ids=shifted).logits
    return F.cross_entropy(
        logits.flatten(0, 1), labels.flatten(), ignore_index=IGNORED, label_smoothing=label_smoothing
    )
