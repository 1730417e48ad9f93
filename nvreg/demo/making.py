"""From a task's corpora to its model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from transformers import (
    BertForSequenceClassification,
    DataCollatorForLanguageModeling,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from nvreg.config import Evaluation, Reading
from nvreg.data import Examples
from nvreg.demo.corpus import GENERAL, read_records
from nvreg.demo.domains import IN_DOMAIN
from nvreg.demo.models import bart, bert, llama, marian
from nvreg.demo.progress import training_progress
from nvreg.demo.recipe import Recipe, Training
from nvreg.demo.records import ATTITUDES, Record
from nvreg.demo.tokenizer import SPECIAL_TOKENS, train_tokenizer
from nvreg.demo.training import Batch, epochs, reproducible, train_
from nvreg.tasks import make_task

UNTRAINED = {
    "translation": marian,
    "classification": bert,  # to be pretrained before it gets classes
    "language-modelling": llama,
    "summarisation": bart,
}
"""Task to what makes its model."""

Trained = tuple[PreTrainedModel, PreTrainedTokenizerBase]


def make_model(directory: Path, task: str, recipe: Recipe, seed: int) -> Trained:
    """Train on the in-domain corpus under ``directory``, and save the checkpoint as ``model``.

    What is trained before, on general text, is saved as ``pretrained``. Equal arguments give equal weights
    on the same machine, however many cores are free.
    """
    train = read_records(directory / IN_DOMAIN.name / "train.jsonl")
    with reproducible(seed):
        if recipe.pretraining:
            model, tokenizer = _pretrained(directory, task, recipe, seed)
        else:
            model, tokenizer = UNTRAINED[task](recipe), train_tokenizer(train, task, recipe.vocabulary)
        batches = _batches(task, model, tokenizer, train, recipe.training)
        _train_(task, model, epochs(batches, seed), recipe.training)
    return _saved(model, tokenizer, directory / "model")


def _pretrained(directory: Path, task: str, recipe: Recipe, seed: int) -> Trained:
    """Train to guess masked tokens of general text, and return the model with classes in place of guesses."""
    assert recipe.pretraining
    general = read_records(directory / GENERAL / "train.jsonl")
    model, tokenizer = UNTRAINED[task](recipe), train_tokenizer(general, task, recipe.vocabulary)
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
    evaluation = Evaluation(metrics=["nll"], batch_tokens=training.batch_tokens)
    reader = make_task(task, tokenizer, model.config, data=Reading(), evaluation=evaluation)
    return list(reader.teacher_forced(reader.encode(Examples(list(records)))))


def masked(batches: Iterator[Batch], tokenizer: PreTrainedTokenizerBase) -> Iterator[Batch]:
    """Mask 15 % of the tokens, others each time, and make them the labels (Devlin et al., 2019)."""
    collator = DataCollatorForLanguageModeling(tokenizer)
    for batch in batches:
        tokens = batch["input_ids"].clone()
        tokens, labels = collator.torch_mask_tokens(tokens, tokens < len(SPECIAL_TOKENS))
        yield {**batch, "input_ids": tokens, "labels": labels}


def _saved(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, path: Path) -> Trained:
    model.save_pretrained(path)
    tokenizer.save_pretrained(path)
    return model, tokenizer
