"""Text as teacher-forced batches: all of a file, or a few thousand tokens (docs/method.md, section 3)."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import accumulate
from pathlib import Path
from random import Random

from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from nvreg.config import Evaluation, Reading, Source, source_of
from nvreg.data import Examples, batches, load_examples, model_inputs
from nvreg.errors import UserError
from nvreg.models import IGNORED
from nvreg.models.loading import is_tagger
from nvreg.models.registry import layers_by_role
from nvreg.models.teacher_forcing import check_vocabulary, padding_token
from nvreg.tasks import make_task
from nvreg.tasks.base import BATCH_TOKENS, Task, part
from nvreg.tasks.limits import token_limit

CALIBRATION_TOKENS = 4096
"""Tokens of a sample that settings are solved for on."""

CALIBRATION_EXAMPLES = 32
"""Examples of such a sample at least: where they are long, weights differ more between than within them."""


def random_batches(
    task: Task, examples: Examples, tokens: int = CALIBRATION_TOKENS
) -> list[dict[str, Tensor]]:
    """Return random examples as teacher-forced batches, the same ones each time.

    Args:
        task: the task that reads the examples.
        examples: one or more.
        tokens: number of tokens that encoder and decoder each read, in `CALIBRATION_EXAMPLES` examples or
            more; all examples where they have fewer.
    """
    most = max(tokens, CALIBRATION_EXAMPLES)
    records = Random(0).sample(examples.records, min(len(examples), most))
    encoded = task.encode(Examples(records))
    taken = count = 0
    while taken < len(records) and (count < tokens or taken < CALIBRATION_EXAMPLES):
        count += _tokens(task.batch(encoded, [taken]))
        taken += 1
    return list(task.teacher_forced(part(encoded, slice(taken))))


def batches_of_file(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    path: Path | str,
    column: str,
    target_column: str | None,
    limit: int | None = None,
    tokens: int | None = None,
    reading: Reading | None = None,
    split: str = "train",
) -> list[dict[str, Tensor]]:
    """Read a file of text as padded, teacher-forced batches, long and short ones mixed.

    An encoder-decoder model reads sources and, teacher-forced, targets; any other model the texts of one
    column, or a tagger lists of words, as its task does. What is longer than the model's limit is cut.

    Args:
        model: decides which.
        tokenizer: the model's.
        path: the text, as `nvreg.config.source_of` reads it.
        column: name of the column of sources, of texts or of words.
        target_column: name of the column of targets, for an encoder-decoder model alone.
        limit: examples at most, the first ones.
        tokens: read random examples of these, as `random_batches` does; by default all.
        reading: the prefix and the languages, for an encoder-decoder model alone; its columns are not used.
        split: the split of a data set of the hub.

    Raises:
        UserError: if the text cannot be had, or the columns are not those of such a model.
    """
    source, reading = source_of(str(path), split, limit=limit), reading or Reading()
    if "cross" in layers_by_role(model):
        if target_column is None:
            raise UserError(
                "expected --target-column with an encoder-decoder model, whose decoder reads the targets"
            )
        columns = {"source": column, "target": target_column}
        evaluation = Evaluation(metrics=["nll"])
        task = make_task("translation", tokenizer, model.config, data=reading, evaluation=evaluation)
        examples = load_examples(source, columns, task.required)
        if tokens is not None:
            return random_batches(task, examples, tokens)
        return list(task.teacher_forced(task.encode(examples)))
    got = target_column or reading.source_prefix or reading.source_language or reading.target_language
    if got:
        raise UserError(
            f"expected --column alone with {model.config.model_type}, which reads one text, "
            f"got a target, prefix or language: {got}"
        )
    if is_tagger(model) and _holds_words(source, column):
        sequences = _of_words(model, tokenizer, load_examples(source, {"tokens": column}, ["tokens"]))
    else:
        check_vocabulary(model.config, tokenizer)
        texts = [record["text"] for record in load_examples(source, {"text": column}, ["text"]).records]
        sequences = [ids for ids in _tokenise(model, tokenizer, texts) if ids]
    if tokens is not None:
        sequences = _random(sequences, tokens)
    groups = batches(list(map(len, sequences)), BATCH_TOKENS)
    Random(0).shuffle(groups)
    padding = padding_token(model.config, tokenizer)
    return [model_inputs([sequences[index] for index in group], padding) for group in groups]


def _holds_words(source: Source, column: str) -> bool:
    """Return whether the first record has a list of words in a column."""
    first = source.model_copy(update={"limit": 1, "seed": None, "part": None})
    try:
        load_examples(first, {"tokens": column}, ["tokens"])
    except UserError:  # which reading texts raises too, if it is one
        return False
    return True


def _of_words(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, examples: Examples
) -> list[list[int]]:
    """Return the tokens of every text that has a word which is scored."""
    evaluation = Evaluation(metrics=["nll"])
    task = make_task("token-classification", tokenizer, model.config, data=Reading(), evaluation=evaluation)
    encoded = task.encode(examples)
    return [ids for ids, firsts in zip(encoded.tokens, encoded.firsts, strict=True) if firsts]


def _tokenise(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, texts: list[str]
) -> list[list[int]]:
    limit = token_limit(model.config, tokenizer)
    return tokenizer(texts, truncation=limit is not None, max_length=limit).input_ids


def _random(sequences: list[list[int]], tokens: int) -> list[list[int]]:
    shuffled = Random(0).sample(sequences, len(sequences))
    before = accumulate(map(len, shuffled), initial=0)
    taken = sum(count < tokens for count in before)
    return shuffled[: max(taken, CALIBRATION_EXAMPLES)]


def _tokens(batch: Mapping[str, Tensor]) -> int:
    counts = [batch["attention_mask"].sum()]
    if "labels" in batch and batch["labels"].ndim > 1:
        counts.append((batch["labels"] != IGNORED).sum())
    return int(min(counts))
