"""What ``nvreg finetune`` says of its work: the manifest of its directory, and the record of every seed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from nvreg.errors import DamagedError, UserError
from nvreg.files import DIGESTS
from nvreg.results import SplitFacts, finite, is_changed_manifest, sealed_manifest
from nvreg.validation import Number, checked, parsed, read_bytes

RECORD = "training.json"
"""The file of a seed's record, which a finished checkpoint gets last."""

F = TypeVar("F", bound="FineTuningManifest")


class FineTuningManifest(BaseModel):
    """What makes a fine-tuning another one, whatever its seeds: ``manifest.json`` of its directory."""

    model_config = ConfigDict(strict=True, extra="allow", use_attribute_docstrings=True)

    name: str
    """Name of the fine-tuning."""
    task: str
    """What the model is trained for."""
    method: str
    """How it is fine-tuned."""
    regulariser: dict[str, Any]
    """The method's options."""
    training: dict[str, Any]
    """How long and how fast it is trained."""
    model: str
    """The pretrained model: architecture and digest of its body."""
    data: dict[str, SplitFacts]
    """What it is trained and validated on, by split."""
    reading: dict[str, Any]
    """How text is read."""


class TrainingRecord(FineTuningManifest):
    """What is known of a checkpoint that ``nvreg finetune`` wrote: ``training.json`` beside its weights."""

    applied: dict[str, Any] = {}
    """What the method did to this model."""
    seed: int
    """The seed that it was trained with."""
    seconds: Annotated[Number, Field(ge=0)]
    """Time of training and validation, interruptions left out."""
    epochs: Number
    """Passes over the training examples."""
    steps: Annotated[int, Field(ge=0)]
    """Steps of the optimiser."""
    best: dict[str, Number]
    """Epoch, step and validation scores of the weights."""
    precision: str
    """Arithmetic of training, and why."""
    nvreg: str
    """Version of nvreg."""
    versions: dict[str, str] = {}
    """Versions of Python and of the libraries that numbers depend on."""
    git_commit: str | None = None
    """Commit of nvreg, where it ran from a checkout."""
    hardware: dict[str, Any] = {}
    """Machine, cores and device."""


FINETUNING_MANIFEST = TypeAdapter(FineTuningManifest)
"""The schema of ``manifest.json`` of a fine-tuning."""

TRAINING_RECORD = TypeAdapter(TrainingRecord)
"""The schema of ``training.json``."""


def sealed_text(document: Mapping[str, Any]) -> str:
    """Return a manifest or record as the text of its file, with its own digest."""
    return json.dumps(sealed_manifest(finite(dict(document))), indent=1, allow_nan=False) + "\n"


def read_manifest(path: Path) -> FineTuningManifest:
    """Return the manifest of a fine-tuning's directory.

    Raises:
        UserError: if it cannot be read, or is none; the message names the key.
        DamagedError: if it is no longer as it was written. That of an earlier version has no digest.
    """
    return _read(FINETUNING_MANIFEST, path)


def read_record(path: Path) -> TrainingRecord:
    """Return the record of a seed; errors are those of `read_manifest`."""
    return _read(TRAINING_RECORD, path)


def training_seconds(checkpoint: Path) -> float | None:
    """Return how long ``nvreg finetune`` took to train a checkpoint; None where it did not train it.

    Raises:
        UserError: if the record beside the weights is damaged. A file of its name in a directory that
            nvreg did not write is not taken for one.
    """
    path = checkpoint / RECORD
    if not path.is_file():
        return None
    try:
        return float(read_record(path).seconds)
    except DamagedError:
        raise
    except UserError:
        if (checkpoint / DIGESTS).is_file():
            raise
        return None


def _read(schema: TypeAdapter[F], path: Path) -> F:
    hint = "put the file that nvreg finetune wrote back, or run it again, which trains anew what is damaged"
    found = checked(schema, text := read_bytes(path, hint), str(path), hint)
    if is_changed_manifest(parsed(text, str(path), hint)):
        raise DamagedError(f"{path}: expected what nvreg finetune wrote, got a file that has changed; {hint}")
    return found
