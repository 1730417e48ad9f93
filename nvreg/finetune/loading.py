"""Loading a model to be trained, with a new head for classification where it has none that fits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from transformers import AutoConfig, PreTrainedModel, PreTrainedTokenizerBase

from nvreg.config import ModelSource
from nvreg.errors import UserError
from nvreg.models.loading import load_model
from nvreg.tasks.labels import number_of


def load_trainable(
    source: ModelSource, task: str, tokenizer: PreTrainedTokenizerBase, classes: Sequence[str] | None
) -> PreTrainedModel:
    """Load a model for a task.

    Args:
        source: the checkpoint.
        task: decides the head.
        tokenizer: the model's.
        classes: of the new head for classification, or None to keep the checkpoint's head.

    Raises:
        UserError: as `nvreg.models.loading.load_model`; if the device is one of several GPUs.
    """
    if source.device not in ("auto", "cpu", "cuda"):
        raise UserError(
            f"model.device: expected auto, cpu or cuda, got {source.device}; the environment variable "
            "CUDA_VISIBLE_DEVICES chooses a GPU for training"
        )
    model = load_model(
        source.path,
        task,
        labels=classes,
        revision=source.revision,
        device=source.device,
        trust_remote_code=source.trust_remote_code,
    )
    if model.config.pad_token_id is None:  # which a head for classification looks for the last token by
        pad = tokenizer.pad_token_id
        model.config.pad_token_id = tokenizer.eos_token_id if pad is None else pad
    return model


def classes_of(
    source: ModelSource, labels: Sequence[Any], renamed: Mapping[str, str] | None
) -> list[str] | None:
    """Return the classes of the head that labels need, or None where those are the checkpoint's.

    Args:
        source: the checkpoint.
        labels: of the training data.
        renamed: labels of the data to names of classes, where they differ.
    """
    hub = {"revision": source.revision, "trust_remote_code": source.trust_remote_code}
    config = AutoConfig.from_pretrained(source.path, **hub)
    distinct = sorted(set(map(str, labels)), key=_natural)
    if "ForSequenceClassification" in (config.architectures or [""])[0]:
        names = list(config.id2label.values())
        try:
            known = {number_of(label, names, renamed, record=1) for label in distinct}
        except UserError:
            known = set()
        if len(known) == len(names):
            return None
    return list(dict.fromkeys((renamed or {}).get(label, label) for label in distinct))


def _natural(label: str) -> tuple[bool, int, str]:
    """Order numbers as numbers, so that a class has its label's number where labels are numbers."""
    return not label.isdecimal(), int(label) if label.isdecimal() else 0, label
