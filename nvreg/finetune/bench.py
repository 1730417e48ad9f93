"""What a fine-tuning works on, loaded once: the task and the encoded data, but no model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase, set_seed

from nvreg.config import Evaluation, Generation, Source
from nvreg.data import load_examples
from nvreg.environment import device_kind, environment
from nvreg.errors import UserError
from nvreg.finetune.loading import classes_of, load_trainable
from nvreg.finetune.precision import Precision, choose_precision
from nvreg.finetune.registry import attach
from nvreg.finetune.schema import FineTuning
from nvreg.identity import identify
from nvreg.models.loading import load_tokenizer
from nvreg.tasks import Encoded, Task, encode, make_task
from nvreg.tasks.limits import token_limit

_SCORES = {"classification": ("accuracy", "nll")}
"""What validation scores by task, beside the metric of early stopping."""


@dataclass(frozen=True)
class Split:
    """A split: the number of its examples, their fingerprint, and what the task encoded them as."""

    examples: int
    fingerprint: str
    encoded: Encoded

    def describe(self) -> dict[str, Any]:
        """Return what a manifest says of it."""
        return {
            "fingerprint": self.fingerprint,
            "examples": self.examples,
            "truncated": self.encoded.truncated,
        }


@dataclass(frozen=True)
class Bench:
    """A fine-tuning with everything it names loaded, but the model.

    Attributes:
        finetuning: what was asked for.
        tokenizer: the model's.
        classes: of a new head for classification; None keeps the checkpoint's head.
        task: encodes and scores.
        metrics: what validation scores.
        splits: train and validation.
        precision: the arithmetic of training.
        subject: what makes a fine-tuning another one, whatever its seeds.
        environment: what it is run with.
    """

    finetuning: FineTuning
    tokenizer: PreTrainedTokenizerBase
    classes: list[str] | None
    task: Task[Any]
    metrics: list[str]
    splits: Mapping[str, Split]
    precision: Precision
    subject: Mapping[str, Any]
    environment: Mapping[str, Any]

    def model(self, seed: int) -> PreTrainedModel:
        """Return the pretrained model, with a head that the seed decides where it is new."""
        set_seed(seed)
        finetuning = self.finetuning
        return load_trainable(finetuning.model, finetuning.task, self.tokenizer, self.classes)


def open_bench(finetuning: FineTuning) -> Bench:
    """Load and check everything a fine-tuning names.

    Raises:
        UserError: if the model or data cannot be had, or the model has no loss for the task or is not one for
            the method.
    """
    source, data, domain = finetuning.model, finetuning.data, finetuning.data.in_domain
    tokenizer = load_tokenizer(
        source.path, revision=source.revision, trust_remote_code=source.trust_remote_code
    )
    classes = None
    if finetuning.task == "classification":
        whole = domain.train.model_copy(update={"limit": None, "seed": None})  # a subset may lack a class
        labels = [record["label"] for record in load_examples(whole, data.columns, ["label"]).records]
        classes = classes_of(source, labels, data.labels)
    model = load_trainable(source, finetuning.task, tokenizer, classes)
    # So that what the method refuses is known before anything is written.
    attach(finetuning.method, model, finetuning.regulariser, finetuning.training.seeds[0]).detach_()
    metrics = _metrics(finetuning)
    tokens = min(Generation().max_new_tokens, token_limit(model.config, tokenizer) or 10**9)
    generation = Generation(num_beams=1, max_new_tokens=tokens)
    evaluation = Evaluation(metrics=metrics, generation=generation)
    task = make_task(finetuning.task, tokenizer, model.config, data=data, evaluation=evaluation)

    def load(text: Source, split: str) -> Split:
        examples = load_examples(text, data.columns, task.required)
        return Split(len(examples), examples.fingerprint, encode(task, examples, f"{domain.name} {split}"))

    splits = {"train": load(domain.train, "train"), "validation": load(domain.validation, "validation")}
    if "labels" not in task.batch(splits["train"].encoded, [0]):
        raise UserError(
            f"expected a decoder for task {finetuning.task}, got a masked language model "
            f"({model.config.model_type})"
        )
    subject = {
        **finetuning.model_dump(include={"name", "task", "method", "regulariser"}),
        "training": finetuning.training.model_dump(exclude={"seeds"}),
        "model": str(identify(model)),
        "data": {name: split.describe() for name, split in splits.items()},
        "reading": data.options,
    }
    precision = choose_precision(finetuning.training.precision, model.device)
    made_with = environment(device_kind(model.device))
    return Bench(finetuning, tokenizer, classes, task, metrics, splits, precision, subject, made_with)


def _metrics(finetuning: FineTuning) -> list[str]:
    stopping = finetuning.training.early_stopping
    first = [stopping.metric] if stopping else []
    return list(dict.fromkeys([*first, *_SCORES.get(finetuning.task, ("nll",))]))
