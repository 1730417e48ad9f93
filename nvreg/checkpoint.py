"""Converted models as directories: an unchanged pretrained checkpoint, with prior and settings beside it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, TypeAdapter
from torch import nn
from transformers import PreTrainedModel

from nvreg.attention.settings import Settings
from nvreg.errors import DamagedError, UserError
from nvreg.files import check_digests, write_text
from nvreg.models.conversion import conversion_of
from nvreg.models.convert import convert_, current_settings
from nvreg.models.loading import class_of, load_config, load_with
from nvreg.models.weight_files import WeightFiles
from nvreg.prior.artefact import Prior
from nvreg.results import digest
from nvreg.validation import checked, parsed, read_bytes

PRIOR_FILE = "nvreg_prior.safetensors"
SETTINGS_FILE = "nvreg.json"


class WrittenSettings(BaseModel):
    """What a converted checkpoint says of its settings: ``nvreg.json``."""

    model_config = ConfigDict(strict=True, use_attribute_docstrings=True)

    space: Literal["inputs", "heads"] = "inputs"
    """Where attention is regularised: in input space or in head space."""
    settings: dict[str, Any]
    """Values by parameter, by role or for all roles; what is not named is as pretrained."""


SETTINGS = TypeAdapter(WrittenSettings)
"""The schema of ``nvreg.json``."""


def save_pretrained(model: PreTrainedModel, path: str | Path, *, like: WeightFiles | None = None) -> None:
    """Save a converted model to a directory.

    The weights are the pretrained ones: Transformers alone loads the unchanged pretrained model from it,
    `from_pretrained` the converted one. The key "nvreg" of its config says to tools that there is one.

    Args:
        model: the converted model.
        path: the directory.
        like: how the checkpoint that the model was loaded from keeps its weights, which are then kept so; by
            default they are written as the model has them.

    Raises:
        UserError: if it has adapters (LoRA) that are not merged, or quantised weights: neither is part of a
            checkpoint.
        ValueError: if the model is not converted.
    """
    conversion = conversion_of(model)
    if conversion is None or not isinstance(conversion.prior, Prior):
        raise ValueError("expected a converted model; call convert_(model, prior, settings) first")
    if getattr(model, "peft_config", None):
        raise UserError("expected a model without adapters, got some; merge them with merge_and_unload()")
    for name, weight in model.named_parameters():
        if type(weight) is not nn.Parameter:
            raise UserError(
                f"expected plain weights, got {type(weight).__name__} for {name}; save the model before "
                "it is quantised, and quantise what nvreg.from_pretrained returns"
            )
    path, prior = Path(path), conversion.prior
    path.mkdir(parents=True, exist_ok=True)
    prior.save(path / PRIOR_FILE)
    written = {"space": prior.space, "settings": current_settings(model).to_dict()}
    identity = digest([written, prior.fingerprint])
    model.config.nvreg = {"space": prior.space, "settings_digest": identity}
    try:
        (like or WeightFiles()).save(model, path)
    finally:
        del model.config.nvreg
    write_text(path / SETTINGS_FILE, json.dumps(written, indent=1) + "\n")


def from_pretrained(path: str | Path, **options: Any) -> PreTrainedModel:
    """Load a model that `save_pretrained` saved, in evaluation mode.

    Args:
        path: the directory.
        options: passed on to the ``from_pretrained`` of Transformers, ``dtype`` for one.

    Raises:
        UserError: if the directory lacks a part or its weights are not the ones that were saved.
    """
    path, is_trusted = Path(path), bool(options.get("trust_remote_code"))
    check_digests(path)
    prior, settings = read_conversion(path)
    config = load_config(path, trust_remote_code=is_trusted)
    (architecture, *_) = config.architectures or ["AutoModel"]
    model_class = class_of(architecture, path, config if is_trusted else None)
    model = load_with(model_class, path, **options).eval()
    return convert_(model, prior, settings)


def is_converted_directory(path: str | Path) -> bool:
    """Whether a directory is one that `save_pretrained` wrote."""
    return (Path(path) / SETTINGS_FILE).is_file()


def read_conversion(path: Path) -> tuple[Prior, Settings]:
    """Return the prior and the settings of a directory that `save_pretrained` wrote.

    Raises:
        UserError: if the directory lacks a part, or one is none.
        DamagedError: if setting and prior are no longer those that were saved.
    """
    for name in (SETTINGS_FILE, PRIOR_FILE, "config.json"):
        if not (path / name).is_file():
            raise UserError(
                f"expected a directory written by nvreg.save_pretrained, found no {name} in {path}"
            )
    file, hint = path / SETTINGS_FILE, "put the file that nvreg wrote back"
    written = checked(SETTINGS, read_bytes(file, hint), str(file), hint)
    try:
        settings = Settings.from_dict(written.settings)
    except ValueError as error:
        raise UserError(f"{file}, settings.{error}; {hint}") from error
    prior = Prior.load(path / PRIOR_FILE)
    _check_identity(path, prior)
    return prior, settings


def _check_identity(path: Path, prior: Prior) -> None:
    """Check that setting and prior are those of the digest in config.json, if it has one."""
    hint = "put back what nvreg wrote, or save the model with another setting by nvreg convert"
    config, written = (
        parsed(read_bytes(file, hint), str(file), hint)
        for file in (path / "config.json", path / SETTINGS_FILE)
    )
    noted = config.get("nvreg") if isinstance(config, dict) else None
    expected = noted.get("settings_digest") if isinstance(noted, dict) else None
    if expected not in (None, digest([written, prior.fingerprint])):
        raise DamagedError(
            f"{path / SETTINGS_FILE}: expected the setting and the prior that were saved together, got "
            f"others; {hint}"
        )
