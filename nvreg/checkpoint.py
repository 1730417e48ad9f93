"""Converted models in directories and on the hub: an unchanged checkpoint, prior and settings beside it."""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, TypeAdapter
from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from nvreg.attention.settings import Settings
from nvreg.card import Provenance, converted_card, write_card
from nvreg.errors import DamagedError, UserError
from nvreg.files import check_digests, write_text
from nvreg.hub import check_push, fetch, is_hub_name, on_hub, push
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


def save_pretrained(
    model: PreTrainedModel,
    path: str | Path,
    *,
    like: WeightFiles | None = None,
    made: Provenance | None = None,
) -> None:
    """Save a converted model to a directory.

    The weights are the pretrained ones: Transformers alone loads the unchanged pretrained model from it,
    `from_pretrained` the converted one. The key "nvreg" of its config says to tools that there is one, and
    its README.md, the card that the hub shows, says it to people. A README.md that nvreg did not write stays.

    Args:
        model: the converted model.
        path: the directory.
        like: how the checkpoint that the model was loaded from keeps its weights, which are then kept so; by
            default they are written as the model has them.
        made: what the card says that it was made from; by default what the model was loaded from.

    Raises:
        UserError: if it has adapters (LoRA) that are not merged, or quantised weights: neither is part of a
            checkpoint.
        ValueError: if the model is not converted, or is so without interpolation: an ablation of the method.
    """
    conversion = conversion_of(model)
    if conversion is None or not isinstance(conversion.prior, Prior):
        raise ValueError("expected a converted model; call convert_(model, prior, settings) first")
    if not all(state.interpolates for state in conversion.states.values()):
        raise ValueError("expected a model converted with interpolates=True, got the ablation without it")
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
    settings_digest = digest([written, prior.fingerprint])
    model.config.nvreg = {"space": prior.space, "settings_digest": settings_digest}
    try:
        (like or WeightFiles()).save(model, path)
    finally:
        del model.config.nvreg
    write_text(path / SETTINGS_FILE, json.dumps(written, indent=1) + "\n")
    made = made or Provenance(str(model.name_or_path or ""))
    write_card(path, converted_card(model, prior, current_settings(model), made))


def push_to_hub(
    model: PreTrainedModel | str | Path,
    repo: str,
    *,
    tokenizer: PreTrainedTokenizerBase | None = None,
    private: bool | None = None,
    revision: str | None = None,
) -> str:
    """Push a converted model, or a directory that nvreg wrote, to a model repository of the Hugging Face hub.

    The token is that of ``HF_TOKEN`` or of ``hf auth login``.

    Args:
        model: a converted model, which is saved as by `save_pretrained`; or a directory, of which every file
            is pushed whose name does not begin with a dot.
        repo: as in ``user/repo``; it is made where there is none.
        tokenizer: the tokenizer that belongs to the model.
        private: whether a new repository is private; by default as the user's or organisation's are.
        revision: the branch, which is made where there is none; by default the main branch.

    Returns:
        The address of the commit.

    Raises:
        UserError: if it cannot be saved or pushed.
        ValueError: if the model is not converted.
    """
    check_push(repo)
    if isinstance(model, str | Path):
        directory = Path(model).expanduser()
        if not directory.is_dir():
            raise UserError(f"expected a model or its directory to push, got {directory}, which is none")
        return push(directory, repo, private=private, revision=revision)
    with TemporaryDirectory() as aside:
        save_pretrained(model, aside, made=Provenance(str(model.name_or_path or ""), repo))
        if tokenizer is not None:
            tokenizer.save_pretrained(aside)
        otherwise = "or save it with nvreg.save_pretrained"
        return push(Path(aside), repo, private=private, revision=revision, otherwise=otherwise)


_OF_HUB = ("cache_dir", "force_download", "local_files_only", "token")
"""Options of Transformers' ``from_pretrained`` that say how files are fetched."""


def from_pretrained(path: str | Path, *, revision: str | None = None, **options: Any) -> PreTrainedModel:
    """Load a model that `save_pretrained` saved or `push_to_hub` pushed, in evaluation mode.

    Args:
        path: the directory, or the name on the hub, as in ``user/repo``. The token of a private one is that
            of ``HF_TOKEN`` or of ``hf auth login``.
        revision: branch, tag or commit on the hub.
        options: passed on to the ``from_pretrained`` of Transformers, ``dtype`` for one.

    Raises:
        UserError: if there is no such model, the hub is out of reach, a part is missing, or its weights are
            not the ones that were saved.
    """
    is_trusted = bool(options.get("trust_remote_code"))
    fetching = {name: options.pop(name) for name in _OF_HUB if name in options}
    path = converted_directory(path, revision, **fetching) or Path(path).expanduser()
    if not path.is_dir() and is_hub_name(str(path)):
        raise UserError(
            f"expected a model that nvreg.push_to_hub pushed, got {str(path)!r} on the Hugging Face hub, "
            "which is another; convert it with `nvreg convert`"
        )
    check_digests(path)
    prior, settings = read_conversion(path)
    config = load_config(path, trust_remote_code=is_trusted)
    (architecture, *_) = config.architectures or ["AutoModel"]
    model_class = class_of(architecture, path, config if is_trusted else None)
    model = load_with(model_class, path, **options).eval()
    return convert_(model, prior, settings)


def converted_directory(path: str | Path, revision: str | None = None, **options: Any) -> Path | None:
    """Return where the files are of what `save_pretrained` saved or `push_to_hub` pushed; None for others.

    The files of a name on the hub are fetched; of one of another model, no more than its config.json is.

    Args:
        path: a directory, or a name on the hub.
        revision: branch, tag or commit on the hub.
        options: how files are fetched, as ``cache_dir``.

    Raises:
        UserError: if there is no such model on the hub, or it is out of reach.
    """
    name, local = str(path), Path(path).expanduser()
    if local.is_dir() or not is_hub_name(name):
        return local if (local / SETTINGS_FILE).is_file() else None
    with on_hub(f"a model {name!r}"):
        config, _ = PreTrainedConfig.get_config_dict(name, revision=revision, **options)
    return fetch(name, revision, **options) if "nvreg" in config else None


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
