"""A file of text as the single sequences that a model's loss is differentiated for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers import DataCollatorForLanguageModeling, PreTrainedModel, PreTrainedTokenizerBase

from nvreg.config import Evaluation, Reading, Source, source_of
from nvreg.data import load_examples
from nvreg.errors import UserError
from nvreg.finetune.fisher import Fisher, estimate_fisher
from nvreg.models import IGNORED
from nvreg.models.loading import kind_of, load_model, load_tokenizer
from nvreg.progress import Progress
from nvreg.results import digest
from nvreg.tasks import TASKS, Task, make_task

MASKED = 0.15
"""Share of tokens that masked language modelling predicts (Devlin et al., 2019)."""

_ATTEMPTS = 100
"""Number of maskings that a short sequence gets until one has something to predict."""


class Columns(NamedTuple):
    """Names of a file's columns, which decide the loss.

    Attributes:
        text: the column of texts, or of sources where there are targets.
        target: the column of targets.
        label: the column of labels.
        tag: the column of the tags of words; ``text`` is then the column of lists of words. Two numbers are
            columns of a CoNLL file.
    """

    text: str
    target: str | None = None
    label: str | None = None
    tag: str | None = None

    @property
    def task(self) -> str:
        """The task whose loss it is."""
        if self.target is not None:
            return "translation"
        if self.tag is not None:
            return "token-classification"
        return "language-modelling" if self.label is None else "classification"

    @property
    def names(self) -> dict[str, str]:
        """The file's columns by the task's names of them."""
        text = {"translation": "source", "token-classification": "tokens"}.get(self.task, "text")
        given = {text: self.text, "target": self.target, "label": self.label, "tags": self.tag}
        return {column: name for column, name in given.items() if name is not None}

    def source(self, written: str, limit: int | None) -> Source:
        """Return the data that an option names, of which a limited number of examples are drawn at random."""
        seed = None if limit is None else 0
        return source_of(written, "train", words=self.text, tags=self.tag or "", limit=limit, seed=seed)


class Text:
    """Every sequence of a file, with its labels.

    Args:
        model: the model that reads the text.
        tokenizer: the model's tokenizer.
        path: the data, as `nvreg.config.source_of` reads it.
        columns: the file's columns. Targets or labels are what is predicted; without them it is the text
            itself, masked or causally.
        limit: largest number of examples, which are drawn at random.
        reading: prefix and languages of sources with targets; its columns are not used.

    Attributes:
        loss: masked-lm, causal, seq2seq, classification or token-classification.
        examples: number of examples.
        fingerprint: digest of the text and of how it is read.

    Raises:
        UserError: if the text cannot be had, or the columns are not those of such a model.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        path: Path | str,
        columns: Columns,
        limit: int | None = None,
        reading: Reading | None = None,
    ) -> None:
        if columns.task == "language-modelling" and model.config.is_encoder_decoder:
            raise UserError(
                "expected --target-column with an encoder-decoder model, whose decoder reads the targets; "
                "got --column alone"
            )
        language_modelling = "causal" if kind_of(model.config) == "decoder-only" else "masked-lm"
        self.loss = {"translation": "seq2seq", "language-modelling": language_modelling}.get(
            columns.task, columns.task
        )
        reading, evaluation = reading or Reading(), Evaluation(metrics=["nll"])
        self._task: Task[Any] = make_task(
            columns.task, tokenizer, model.config, data=reading, evaluation=evaluation
        )
        examples = load_examples(columns.source(str(path), limit), columns.names, self._task.required)
        self._encoded = self._task.encode(examples)
        self.examples = len(examples)
        self.fingerprint = digest([examples.fingerprint, reading.model_dump()])
        self._masking = (
            DataCollatorForLanguageModeling(tokenizer, mlm_probability=MASKED)
            if self.loss == "masked-lm"
            else None
        )

    def sequences(self, number: int) -> Iterator[Mapping[str, Tensor]]:
        """Yield the sequences of an example, each a batch of one: several of a text beyond the model's limit.

        What is masked depends on the number alone. A sequence without anything to predict is left out.
        """
        batch = self._task.batch(self._encoded, [number])
        for row in range(len(batch["input_ids"])):
            sequence = {name: ids[row : row + 1] for name, ids in batch.items()}
            if self._masking is not None:
                sequence |= self._masked(sequence["input_ids"], self._masking, number * 1000 + row)
            labels = sequence["labels"][:, 1:] if self.loss == "causal" else sequence["labels"]
            if (labels != IGNORED).any():
                yield sequence

    def _masked(self, ids: Tensor, masking: DataCollatorForLanguageModeling, seed: int) -> dict[str, Tensor]:
        """Return ids and labels; a short sequence is masked until there is something to predict."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            for _ in range(_ATTEMPTS):
                masked, labels = masking.torch_mask_tokens(ids.clone())
                if (labels != IGNORED).any():
                    break
        return {"input_ids": masked, "labels": labels}


def fisher_of_file(
    path: str,
    out: Path,
    data: Path | str,
    columns: Columns,
    limit: int | None,
    progress: Progress,
    reading: Reading | None = None,
) -> Fisher:
    """Estimate the Fisher scores of a checkpoint over a file of text, and save them.

    An estimation that was interrupted goes on from a file beside ``out``.

    Args:
        path: directory or name of the checkpoint.
        out: the file of scores.
        data: the text (see `Text`).
        columns: the file's columns (see `Text`).
        limit: largest number of examples, which are drawn at random.
        progress: where the estimation is shown.
        reading: prefix and languages (see `Text`).

    Raises:
        UserError: if the model or the text cannot be had.
    """
    progress.phase("loading model and text")
    model, tokenizer = load_model(path, TASKS[columns.task].auto_class), load_tokenizer(path)
    text = Text(model, tokenizer, data, columns, limit, reading)
    progress.phase(f"{text.loss} gradients of {text.examples} examples", text.examples)
    fisher = estimate_fisher(
        model,
        text.sequences,
        text.examples,
        loss=text.loss,
        data=text.fingerprint,
        partial=out.with_name(f".{out.name}.part"),
        step=progress.step,
        say=progress.say,
    )
    fisher.save(out)
    return fisher
