"""Trains a task's model on its corpora: one loop, and the same numbers whatever the number of cores."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from random import Random

import torch
from torch import Tensor
from torch.nn.utils import clip_grad_norm_
from transformers import (
    BertForSequenceClassification,
    DataCollatorForLanguageModeling,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    get_linear_schedule_with_warmup,
)

from nvreg.config import Evaluation, Reading
from nvreg.data import Examples
from nvreg.demo.corpora import ATTITUDES, GENERAL, Record, read_records
from nvreg.demo.language import IN_DOMAIN
from nvreg.demo.recipe import SPECIAL_TOKENS, UNTRAINED, Recipe, Training, train_tokenizer
from nvreg.progress import Progress
from nvreg.tasks import make_task

LINES = 10
"""Lines that a whole training prints where there is no terminal."""

Batch = Mapping[str, Tensor]
Trained = tuple[PreTrainedModel, PreTrainedTokenizerBase]


def make_model(directory: Path, task: str, recipe: Recipe, seed: int) -> Trained:
    """Train on the in-domain corpus under ``directory``, and save the checkpoint as ``model``.

    What is trained before, on general text, is saved as ``pretrained``. Weights are float32 with values that
    float16 holds, so that a checkpoint is shipped in half its size without a change. Equal arguments give
    equal weights on the same machine, however many cores are free; another processor rounds otherwise.
    """
    train = read_records(directory / IN_DOMAIN.name / "train.jsonl")
    with reproducible(seed):
        if recipe.pretraining:
            model, tokenizer = _pretrained(directory, task, recipe, seed)
        else:
            model, tokenizer = UNTRAINED[task](recipe), _tokenizer(train, task, recipe)
        batches = _batches(task, model, tokenizer, train, recipe.training)
        _train_(task, model, epochs(batches, seed), recipe.training)
    return _saved(model, tokenizer, directory / "model")


def train_(
    model: PreTrainedModel, batches: Iterator[Batch], training: Training, advance: Callable[[float], None]
) -> None:
    """Train a model in place, and leave it in evaluation mode.

    Args:
        model: which.
        batches: with labels; as many are taken as there are steps.
        training: how.
        advance: called with the loss after each step.
    """
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=training.learning_rate, betas=(0.9, 0.98))
    schedule = get_linear_schedule_with_warmup(optimizer, training.warmup_steps, training.steps)
    for batch in islice(batches, training.steps):
        loss = model(**batch).loss
        loss.backward()
        clip_grad_norm_(model.parameters(), max_norm=1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        advance(loss.item())
    model.eval()


def epochs(batches: Sequence[Batch], seed: int) -> Iterator[Batch]:
    """Yield the batches without end, each epoch in another order."""
    rng = Random(seed)
    while True:
        yield from rng.sample(batches, len(batches))


def masked(batches: Iterator[Batch], tokenizer: PreTrainedTokenizerBase) -> Iterator[Batch]:
    """Mask 15 % of the tokens, others each time, and make them the labels (Devlin et al., 2019)."""
    collator = DataCollatorForLanguageModeling(tokenizer)
    for batch in batches:
        tokens = batch["input_ids"].clone()
        tokens, labels = collator.torch_mask_tokens(tokens, tokens < len(SPECIAL_TOKENS))
        yield {**batch, "input_ids": tokens, "labels": labels}


@contextmanager
def reproducible(seed: int) -> Iterator[None]:
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


@contextmanager
def training_progress(name: str, steps: int) -> Iterator[Callable[[float], None]]:
    """Show ``steps`` steps of a training on standard error; yields what to call with the loss after each."""
    started, done = time.monotonic(), 0

    def advance(loss: float) -> None:
        nonlocal done
        done += 1
        progress.step()
        if not progress.is_live and done % max(1, steps // LINES) == 0:
            left = (time.monotonic() - started) / done * (steps - done)
            progress.say(f"{name}: step {done} of {steps}, loss {loss:.2f}, {left:.0f} s left")

    with Progress() as progress:
        progress.phase(f"training {name}", steps)
        yield advance


def _pretrained(directory: Path, task: str, recipe: Recipe, seed: int) -> Trained:
    """Train to guess masked tokens of general text, and return the model with classes in place of guesses."""
    assert recipe.pretraining
    general = read_records(directory / GENERAL / "train.jsonl")
    model, tokenizer = UNTRAINED[task](recipe), _tokenizer(general, task, recipe)
    batches = _batches("language-modelling", model, tokenizer, general, recipe.pretraining)
    _train_(f"{task}, masked", model, masked(epochs(batches, seed), tokenizer), recipe.pretraining)
    _saved(model, tokenizer, directory / "pretrained")
    classes = dict(enumerate(ATTITUDES))
    model = BertForSequenceClassification.from_pretrained(
        directory / "pretrained",
        id2label=classes,
        label2id={attitude: number for number, attitude in classes.items()},
    )
    return model, tokenizer


def _tokenizer(records: Sequence[Record], task: str, recipe: Recipe) -> PreTrainedTokenizerBase:
    return train_tokenizer((text for record in records for text in record.values()), task, recipe.vocabulary)


def _train_(name: str, model: PreTrainedModel, batches: Iterator[Batch], training: Training) -> None:
    with training_progress(name, training.steps) as advance:
        train_(model, batches, training, advance)


def _batches(
    task: str,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    records: Sequence[Record],
    training: Training,
) -> list[Batch]:
    evaluation = Evaluation(metrics=["nll"], batch_tokens=training.batch_tokens, temperatures=[])
    reader = make_task(task, tokenizer, model.config, data=Reading(), evaluation=evaluation)
    return list(reader.teacher_forced(reader.encode(Examples(list(records)))))


def _saved(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, path: Path) -> Trained:
    """Save a checkpoint with weights rounded to float16, and return what it holds."""
    model.half().float().save_pretrained(path)
    tokenizer.save_pretrained(path)
    return type(model).from_pretrained(path), tokenizer
