"""The model that an experiment is to be about: what it is for, and how it reads the data."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import permutations
from statistics import fmean
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from nvreg.config import Evaluation, Reading
from nvreg.data import Examples
from nvreg.data.looking import Look
from nvreg.errors import UserError
from nvreg.metrics import score
from nvreg.models.loading import kind_of, load_config, load_model, load_tokenizer, position_count
from nvreg.models.lora import find_adapted
from nvreg.models.registry import layers_by_role
from nvreg.models.site import Space
from nvreg.start.columns import NAMES, find_columns, named_columns, texts
from nvreg.tasks import TASKS, make_task
from nvreg.tasks.classification import number_of

Ask = Callable[[str, Sequence[str]], str]
"""Asks a user a question with some answers, and returns one of them."""

TASKS_OF_HEADS: Mapping[str, Sequence[str]] = {
    "SequenceClassification": ("classification",),
    "TokenClassification": ("token-classification",),
    "CausalLM": ("multiple-choice", "language-modelling"),
    "LMHeadModel": ("multiple-choice", "language-modelling"),
    "MaskedLM": ("language-modelling",),
    "WithLMHeadModel": ("language-modelling",),
    "ConditionalGeneration": ("translation", "summarisation"),
    "MTModel": ("translation", "summarisation"),
    "Seq2SeqLM": ("translation", "summarisation"),
}
"""The tasks of a model, by how the name of its class ends; what needs more columns first."""

SUMMARY_IS_SHORTER = 3
"""How many times longer than the other text a document is, at least, where names do not tell what it is."""

COMPARED = 16
"""Records that a model is asked about to tell which column is the source."""


@dataclass(frozen=True)
class DraftSubject:
    """A model with the task that it is measured by.

    Attributes:
        path: where it was loaded from.
        task: the name of its task.
        why: how the task is known, in words; empty where the user named it.
        model: in evaluation mode.
        tokenizer: the model's.
    """

    path: str
    task: str
    why: str
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase

    @cached_property
    def roles(self) -> dict[Space, list[str]]:
        """The roles of attention in each space that the model is converted in."""
        found: dict[Space, list[str]] = {}
        spaces: tuple[Space, ...] = ("inputs", "heads")
        for space in spaces:
            try:
                found[space] = list(layers_by_role(self.model, space))
            except UserError:
                continue
        return found

    @property
    def classes(self) -> list[str]:
        """The names of the classes or tags that the model chooses from."""
        return [name for _, name in sorted((self.model.config.id2label or {}).items())]

    @cached_property
    def positions(self) -> int | None:
        """How many tokens the model has positions for."""
        return position_count(self.model.config)

    @property
    def kind(self) -> str:
        """How the model reads text."""
        return kind_of(self.model.config)

    def takes(self, label: Any) -> bool:
        """Return whether a label is a class of the model as it is."""
        try:
            number_of(label, self.classes, None, record=1)
        except UserError:
            return False
        return True

    def tokens(self, values: Sequence[str]) -> int:
        """Return how many tokens the longest of some texts has."""
        ids = self.tokenizer(text_target=list(values), verbose=False).input_ids
        return max(map(len, ids))

    def direction(self, look: Look, columns: Sequence[str], reading: Mapping[str, Any]) -> tuple[str, str]:
        """Return the columns of source and target: the pair whose targets the model finds the likeliest.

        Args:
            look: what the data holds.
            columns: two or more that hold texts.
            reading: prefix and languages.
        """
        pairs = list(permutations(columns, 2))
        return min(pairs, key=lambda pair: self._bits_per_character(look, pair, reading))

    def _bits_per_character(self, look: Look, pair: tuple[str, str], reading: Mapping[str, Any]) -> float:
        rows = zip(*(look.columns[name] for name in pair), strict=True)
        records = [{"source": source, "target": target} for source, target in rows if source and target]
        task = make_task(
            "translation",
            self.tokenizer,
            self.model.config,
            data=Reading(**reading),
            evaluation=Evaluation(metrics=["bits-per-character"], temperatures=[]),
        )
        frame = task.score(self.model, task.encode(Examples(records[:COMPARED])))
        bits = score(frame, "bits-per-character")
        return bits if math.isfinite(bits) else math.inf


def open_subject(
    path: str, task: str | None, look: Look, ask: Ask | None, revision: str | None
) -> DraftSubject:
    """Load a model, and tell what it is for by its head and the columns of the data.

    Args:
        path: a directory, or a name on the hub.
        task: the task where the user named one.
        look: what the in-domain data hold.
        ask: asks the user, None where nobody answers.
        revision: branch, tag or commit on the hub.

    Raises:
        UserError: if the model cannot be had or converted, or its task cannot be told.
    """
    if task is None:
        task, why = _task_of(path, look, ask, revision)
    else:
        TASKS[task], why = TASKS[task], ""
    model = load_model(path, TASKS[task].auto_class, revision=revision)
    return DraftSubject(path, task, why, model, load_tokenizer(path, revision=revision))


def _task_of(path: str, look: Look, ask: Ask | None, revision: str | None) -> tuple[str, str]:
    adapted = find_adapted(path, revision)
    config = load_config(path, revision=revision)
    architecture = (adapted and adapted.head) or next(iter(config.architectures or ()), "a bare model")
    tasks = next((tasks for ending, tasks in TASKS_OF_HEADS.items() if architecture.endswith(ending)), ())
    if not tasks:
        if ask is None:
            raise UserError(
                f"expected a checkpoint with a head for a task, got {architecture} in {path}; name the task "
                f"with --task, one of {', '.join(TASKS)}"
            )
        return ask(f"{path} is {architecture}. Which task is it for?", list(TASKS)), ""
    because = f"guess: the model is {architecture}"
    if len(tasks) == 1:
        return tasks[0], because
    if tasks[0] == "multiple-choice":
        is_choice = {"choices", "label"} <= find_columns(look, TASKS["multiple-choice"].columns).keys()
        return tasks[
            0 if is_choice else 1
        ], f"{because}, and {'a column lists choices' if is_choice else 'no column lists choices'}"
    if len(texts(look)) < 2:
        return "language-modelling", f"{because}, and the data has one column of text"
    return _pair_task(look, because)


def _pair_task(look: Look, because: str) -> tuple[str, str]:
    """Return whether two columns of text are a translation or a summary."""
    if {"source", "target"} <= named_columns(look, ("source", "target")).keys():
        return "translation", f"{because}, and the columns are called so"
    last = {name.rpartition(".")[2].lower() for name in texts(look)}
    if last & set(NAMES["summary"]) and last & set(NAMES["document"]):
        return "summarisation", f"{because}, and the columns are called so"
    first, second = (_mean_length(look, name) for name in texts(look)[:2])
    if first > SUMMARY_IS_SHORTER * second:
        return (
            "summarisation",
            f"{because}, and one text is {first / max(1, second):.0f} times as long as the other",
        )
    return "translation", f"{because}, and both texts are of similar length"


def _mean_length(look: Look, name: str) -> float:
    return fmean(len(value) for value in look.columns[name] if value is not None)
