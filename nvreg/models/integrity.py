"""What is wrong with a checkpoint: the file that cannot be read, or the weights that are not its config's."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.quantizers.auto import AUTO_QUANTIZATION_CONFIG_MAPPING

from nvreg.errors import UserError, expected_one_of, shown
from nvreg.text import whole_number

_PICKLES = ("pytorch_model*.bin", "*.pt", "*.pth", "*.ckpt")


def broken_file(directory: Path, error: Exception) -> str | None:
    """Return which file of a checkpoint cannot be read and why, None if all can.

    Args:
        directory: the checkpoint's.
        error: what loading it raised.
    """
    for path in sorted(directory.glob("*.json")):
        if reason := _broken_json(path):
            return f"{path}: expected {reason}"
    for path in sorted(directory.glob("*.safetensors")):
        try:
            with safe_open(path, framework="pt"):
                pass
        except Exception as broken:  # whatever safetensors raises
            reason = " ".join(str(broken).split())
            return f"{path}: expected weights in safetensors, got a file that is cut or damaged ({reason})"
    if "weights_only" in str(error):  # as in all that torch says of a pickle that it refuses
        pickled = next((path for pattern in _PICKLES for path in sorted(directory.glob(pattern))), directory)
        return (
            f"{pickled}: expected weights in safetensors, got a pickle that holds more than weights, or is "
            "damaged, and is not read; have who made it save it as safetensors"
        )
    return None


def check_options(directory: Path, config: PreTrainedConfig) -> None:
    """Check what Transformers passes over in silence: broken options of generation, unknown quantisation.

    Args:
        directory: the checkpoint's, which may have no such files.
        config: the checkpoint's.

    Raises:
        UserError: if generation_config.json is broken, or the quantisation of the weights is unknown.
    """
    path = directory / "generation_config.json"
    if path.is_file() and (reason := _broken_json(path)):
        raise UserError(f"{path}: expected {reason}")
    written = getattr(config, "quantization_config", None)
    method = written.get("quant_method") if isinstance(written, dict) else None
    is_old = isinstance(written, dict) and (written.get("load_in_8bit") or written.get("load_in_4bit"))
    if written and not is_old and method not in AUTO_QUANTIZATION_CONFIG_MAPPING:
        known = expected_one_of(AUTO_QUANTIZATION_CONFIG_MAPPING, method)
        raise UserError(f"{directory / 'config.json'}: quantization_config.quant_method: {known}")


def _broken_json(path: Path) -> str | None:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        return f"JSON, got: {' '.join(str(error).split())}"
    if not isinstance(document, dict) and path.name != "added_tokens.json":
        return f"keys and values of JSON, got {shown(document)}"
    if path.name.endswith(".index.json"):
        shards = document.get("weight_map")
        if not isinstance(shards, dict) or not all(isinstance(name, str) for name in shards.values()):
            return "the file of every weight as weight_map, got none"
        absent = [name for name in sorted(set(shards.values())) if not (path.parent / name).is_file()]
        if absent:
            return f"the file {absent[0]}, which it names, beside it, got none"
    return None


def check_weights(
    model: PreTrainedModel,
    path: str | Path,
    found: Mapping[str, Any],
    *,
    needed: Collection[str],
    body: Collection[str] | None,
    besides: frozenset[str],
    hint: str,
) -> None:
    """Check that the weights of a checkpoint are those that its config says, no more and no less.

    Args:
        model: what was loaded.
        path: the checkpoint's.
        found: what Transformers says of the loading: missing, unexpected and mismatched keys.
        needed: names of the weights that the checkpoint must have.
        body: names of those whose shapes must be right; None for all.
        besides: names of modules whose weights come from elsewhere.
        hint: how to mend what is missing.

    Raises:
        UserError: if a weight is missing or has another shape, or the checkpoint has weights of layers that
            the model has not, or biases of matrices that have none.
    """

    def is_elsewhere(name: str) -> bool:
        return not besides.isdisjoint(name.split("."))

    mismatched = sorted(
        (name, tuple(got), tuple(wanted))
        for name, got, wanted in found["mismatched_keys"]
        if (body is None or name in body) and not is_elsewhere(name)
    )
    if mismatched:
        name, got, wanted = mismatched[0]
        raise UserError(
            f"{path}: expected weights of the shapes that config.json says, {wanted} for {name}, got {got}"
            f"{_more(mismatched)}; put the config of these weights back"
        )
    missing = sorted(name for name in set(needed) & set(found["missing_keys"]) if not is_elsewhere(name))
    if missing:
        raise UserError(
            f"expected a checkpoint with all weights of {type(model).__name__}, {path} has no "
            f"{missing[0]}{_more(missing)}{hint}"
        )
    left = sorted(set(_left_over(model, found["unexpected_keys"])))
    if left:
        raise UserError(
            f"{path}: expected no weights but those of the model that config.json says, got {left[0]}"
            f"{_more(left)}, which it would not use; put the config of these weights back"
        )


def _more(names: Collection[Any]) -> str:
    return f" and {len(names) - 1} more" if len(names) > 1 else ""


def _left_over(model: PreTrainedModel, unexpected: Collection[str]) -> Iterator[str]:
    """Yield the unexpected weights that are of the model's layers, and not of another head."""
    modules = dict(model.named_modules())
    counts = {name: len(module) for name, module in modules.items() if isinstance(module, nn.ModuleList)}
    for name in unexpected:
        for full in (name, f"{model.base_model_prefix}.{name}"):
            parts = full.split(".")
            places = [(".".join(parts[:at]), whole_number(each)) for at, each in enumerate(parts)]
            of_layers = [(layers, each) for layers, each in places if layers in counts and each is not None]
            owner = modules.get(".".join(parts[:-1]))
            lacks_bias = parts[-1] == "bias" and isinstance(getattr(owner, "weight", None), torch.Tensor)
            if any(number >= counts[layers] for layers, number in of_layers) or (of_layers and lacks_bias):
                yield name
