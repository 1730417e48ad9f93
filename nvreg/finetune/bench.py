"""What a fine-tuning works on, loaded once: task, encoded data and arithmetic, and a fresh model a seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase, set_seed

from nvreg.config import Evaluation, Generation, ModelSource, Source
from nvreg.data import load_examples
from nvreg.digests import body_digest
from nvreg.environment import device_kind, environment
from nvreg.errors import UserError
from nvreg.finetune.regularisers import REGULARISERS
from nvreg.finetune.schema import FineTuning
from nvreg.models import IGNORED
from nvreg.models.loading import load_config, load_model, load_tokenizer
from nvreg.models.teacher_forcing import is_token
from nvreg.tasks import TASKS, Encoded, Task, encode, make_task
from nvreg.tasks.classification import number_of
from nvreg.tasks.limits import token_limit
from nvreg.text import whole_number

_SCORES = ("accuracy", "nll")
"""Metrics that validation scores, where the task has them, beside that of early stopping."""


@dataclass(frozen=True)
class Split:
    """A split of the data: the number of its examples, their fingerprint, and the task's encoding of them."""

    examples: int
    fingerprint: str
    encoded: Encoded

    def describe(self) -> dict[str, Any]:
        """Return what a manifest says of the split."""
        return {
            "fingerprint": self.fingerprint,
            "examples": self.examples,
            "truncated": self.encoded.truncated,
        }


@dataclass(frozen=True)
class Bench:
    """A fine-tuning with everything it names loaded, but the model.

    Attributes:
        finetuning: the fine-tuning file.
        tokenizer: the model's tokenizer.
        classes: names of the classes of a new head; None keeps the checkpoint's head.
        task: the task, which encodes and scores.
        metrics: names of the metrics that validation scores.
        splits: the splits by name: train and validation.
        taught: numbers of the training examples that have a label.
        precision: the arithmetic of training.
        subject: all that makes a fine-tuning another one, whatever its seeds.
        environment: versions, commit and hardware of this run.
    """

    finetuning: FineTuning
    tokenizer: PreTrainedTokenizerBase
    classes: list[str] | None
    task: Task[Any]
    metrics: list[str]
    splits: Mapping[str, Split]
    taught: Sequence[int]
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
    if column := TASKS[finetuning.task].label_column:
        whole = domain.train.model_copy(update={"limit": None, "seed": None})  # a subset may lack a class
        values = [record[column] for record in load_examples(whole, data.columns, [column]).records]
        labels = [label for value in values for label in (value if isinstance(value, list) else [value])]
        classes = classes_of(finetuning, labels)
    model = load_trainable(source, finetuning.task, tokenizer, classes)
    # The method is tried here, so that what it refuses is known before anything is written.
    method = REGULARISERS[finetuning.method]
    method(model, finetuning.regulariser, finetuning.training.seeds[0]).detach_()
    metrics = _metrics(finetuning)
    tokens = min(Generation().max_new_tokens, token_limit(model.config, tokenizer) or 10**9)
    generation = Generation(num_beams=1, max_new_tokens=tokens)
    evaluation = Evaluation(metrics=metrics, generation=generation, temperatures=[])
    task = make_task(finetuning.task, tokenizer, model.config, data=data, evaluation=evaluation)
    task.check_model(model)

    def load(text: Source, split: str) -> Split:
        examples = load_examples(text, data.columns, task.required)
        return Split(len(examples), examples.fingerprint, encode(task, examples, f"{domain.name} {split}"))

    splits = {"train": load(domain.train, "train"), "validation": load(domain.validation, "validation")}
    if "labels" not in task.batch(splits["train"].encoded, [0]):
        raise UserError(
            f"expected a decoder for task {finetuning.task}, got a masked language model "
            f"({model.config.model_type})"
        )
    taught = [
        number for number in range(splits["train"].examples) if _has_label(task, splits["train"], number)
    ]
    if not taught:
        raise UserError(f"{domain.name} train: expected an example with something to predict, got none")
    subject = {
        **finetuning.model_dump(include={"name", "task", "method", "regulariser"}),
        "training": finetuning.training.model_dump(exclude={"seeds"}),
        "model": str(body_digest(model)),
        "data": {name: split.describe() for name, split in splits.items()},
        "reading": data.options,
    }
    precision = choose_precision(finetuning.training.precision, model.device)
    made_with = environment(device_kind(model.device))
    return Bench(finetuning, tokenizer, classes, task, metrics, splits, taught, precision, subject, made_with)


def _has_label(task: Task[Any], split: Split, number: int) -> bool:
    """Return whether the model's loss is defined on an example by itself: some label is there."""
    labels = task.batch(split.encoded, [number]).get("labels")
    return labels is not None and bool((labels != IGNORED).any())


def _metrics(finetuning: FineTuning) -> list[str]:
    stopping = finetuning.training.early_stopping
    first = [stopping.metric] if stopping else []
    supplied = TASKS[finetuning.task].metrics()
    return list(dict.fromkeys([*first, *(name for name in _SCORES if name in supplied)]))


def load_trainable(
    source: ModelSource, task: str, tokenizer: PreTrainedTokenizerBase, classes: Sequence[str] | None
) -> PreTrainedModel:
    """Load a model for a task.

    Args:
        source: the checkpoint.
        task: name of the task, which decides the head.
        tokenizer: the model's tokenizer.
        classes: names of the classes of a new head, or None to keep the checkpoint's head.

    Raises:
        UserError: as `nvreg.models.loading.load_model`; if the device is one of several GPUs.
    """
    if source.device_map is not None:
        raise UserError(
            f"model.device_map: expected none, as fine-tuning has one device, got {source.device_map}; "
            "leave it out"
        )
    if source.device not in ("auto", "cpu", "cuda"):
        raise UserError(
            f"model.device: expected auto, cpu or cuda, got {source.device}; the environment variable "
            "CUDA_VISIBLE_DEVICES chooses a GPU for training"
        )
    model = load_model(
        source.path,
        TASKS[task].auto_class,
        labels=classes,
        revision=source.revision,
        device=source.device,
        trust_remote_code=source.trust_remote_code,
    )
    if not is_token(model.config, model.config.pad_token_id):  # by which a head finds the last token
        pad = tokenizer.pad_token_id
        model.config.pad_token_id = pad if is_token(model.config, pad) else tokenizer.eos_token_id
    return model


def classes_of(finetuning: FineTuning, labels: Sequence[str | int]) -> list[str] | None:
    """Return the classes of the head that labels need, or None where those are the checkpoint's.

    Args:
        finetuning: the fine-tuning file, which names the checkpoint and its classes by label.
        labels: the labels of the training data.
    """
    source, renamed = finetuning.model, finetuning.data.labels
    config = load_config(source.path, revision=source.revision, trust_remote_code=source.trust_remote_code)
    distinct = sorted(set(map(str, labels)), key=_natural)
    head = str(TASKS[finetuning.task].auto_class).removeprefix("AutoModel")
    if head in (config.architectures or [""])[0]:
        names = list((config.id2label or {}).values())
        try:
            known = {number_of(label, names, renamed, record=1) for label in distinct}
        except UserError:
            known = set()
        if len(known) == len(names):
            return None
    return list(dict.fromkeys((renamed or {}).get(label, label) for label in distinct))


def _natural(label: str) -> tuple[bool, int, str]:
    """Order numbers as numbers, so that a class has its label's number where labels are numbers."""
    number = whole_number(label)
    return number is None, number or 0, label


class Precision(NamedTuple):
    """The arithmetic of training: whether it is in bfloat16, and a sentence that says why."""

    bfloat16: bool
    description: str


def choose_precision(wanted: str, device: torch.device) -> Precision:
    """Return bfloat16 where the hardware has it, unless something else is wanted.

    Args:
        wanted: auto, float32 or bfloat16.
        device: the model's device.
    """
    if wanted != "auto":
        return Precision(wanted == "bfloat16", f"{wanted}, as asked for")
    instructions = _instructions(device)
    if instructions is None:
        return Precision(False, f"float32, as this {device.type} has no instructions for bfloat16")
    return Precision(True, f"bfloat16 by {instructions}, weights in float32")


def _instructions(device: torch.device) -> str | None:
    if device.type == "cuda":
        has_them = torch.cuda.is_bf16_supported(including_emulation=False)
        return torch.cuda.get_device_name(device) if has_them else None
    if device.type != "cpu":
        return None
    capabilities = torch.cpu.get_capabilities()
    known = {"amx_bf16": "AMX", "avx512_bf16": "AVX-512 BF16"}
    return next((name for flag, name in known.items() if capabilities.get(flag)), None)
