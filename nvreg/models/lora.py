"""Checkpoints of adapters (LoRA and its like, by peft), merged into the model that they were trained on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

from transformers import PreTrainedModel
from transformers.utils.peft_utils import find_adapter_config_file

from nvreg.errors import UserError
from nvreg.files import check_no_pipes
from nvreg.hub import is_hub_name, on_hub

_HEADS = {
    "CAUSAL_LM": "AutoModelForCausalLM",
    "SEQ_2_SEQ_LM": "AutoModelForSeq2SeqLM",
    "SEQ_CLS": "AutoModelForSequenceClassification",
    "TOKEN_CLS": "AutoModelForTokenClassification",
}


class Adapted(NamedTuple):
    """A checkpoint that has an adapter in place of a model.

    Attributes:
        path: the directory, or the name on the hub.
        revision: branch, tag or commit of it on the hub.
        base: path or name of the model that the adapter was trained on.
        base_revision: branch, tag or commit of that.
        head: the class of Transformers that it was trained with, where the checkpoint says so.
        whole: names of modules that the checkpoint has weights of, as heads are trained whole.
    """

    path: str
    revision: str | None
    base: str
    base_revision: str | None
    head: str | None
    whole: frozenset[str]


def find_adapted(path: str | Path, revision: str | None = None) -> Adapted | None:
    """Return the adapter at a path or of a name on the hub, None where there is none.

    Raises:
        UserError: if there is one that does not name its model, peft is not installed, or the hub refuses.
    """
    local, path = Path(path).expanduser(), str(path)
    if local.is_dir():
        path = str(local)
        check_no_pipes(local.glob("*"))
    elif not is_hub_name(path):
        return None
    with on_hub(f"a model {path!r}"):
        file = find_adapter_config_file(path, revision=revision)
    if file is None:
        return None
    try:
        config = json.loads(Path(file).read_text(encoding="utf-8"))
        base = config.get("base_model_name_or_path")
    except (ValueError, RecursionError, AttributeError) as error:
        raise UserError(f"{file}: expected keys and values of JSON, got: {error}") from error
    if not base:
        raise UserError(
            f"expected an adapter that names its model as base_model_name_or_path, got none in {file}; "
            "write it there, or merge the adapter"
        )
    try:
        import peft  # noqa: F401 - to say so before anything is loaded
    except ImportError as error:
        raise UserError(
            f"expected a whole model, got an adapter of {base} in {path}; install peft, with which it is "
            "merged when it is loaded, or save what its merge_and_unload() returns"
        ) from error
    return Adapted(
        path,
        revision,
        base,
        config.get("revision"),
        _HEADS.get(config.get("task_type") or ""),
        frozenset(config.get("modules_to_save") or ()),
    )


def class_count(adapted: Adapted) -> int | None:
    """Return how many classes the head in an adapter's checkpoint has, None where it has none."""
    from peft.utils import load_peft_weights

    if not (adapted.head or "").endswith("Classification"):
        return None
    weights = load_peft_weights(adapted.path, device="cpu", revision=adapted.revision)
    matrices = {name: weight for name, weight in weights.items() if weight.ndim == 2}
    rows = (len(weight) for name, weight in matrices.items() if adapted.whole & set(name.split(".")))
    return min(rows, default=None)


def merge(model: PreTrainedModel, adapted: Adapted) -> PreTrainedModel:
    """Return a model with the adapter merged into its weights.

    Raises:
        UserError: if the adapter cannot be merged, or is not one of this model.
    """
    from peft import PeftModel

    try:
        wrapped: Any = PeftModel.from_pretrained(model, adapted.path, revision=adapted.revision)
    except (RuntimeError, ValueError, OSError) as error:
        why = " ".join(str(error).split())[:300]
        raise UserError(f"expected an adapter of {adapted.base} in {adapted.path}: {why}") from error
    if not hasattr(wrapped.base_model, "merge_and_unload"):
        kind = wrapped.active_peft_config.peft_type.value
        raise UserError(
            f"expected an adapter that can be merged, as LoRA, got {kind} in {adapted.path}; "
            "it changes what the model reads, not its weights"
        )
    merged: PreTrainedModel = wrapped.merge_and_unload()
    return merged
