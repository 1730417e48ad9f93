"""The files that a checkpoint's weights are in: their dtypes, sizes and mode, which a copy keeps."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.utils import cached_file

from nvreg.files import WEIGHT_FILES, write_digests
from nvreg.models.lora import find_adapted

_DTYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
"""The dtypes that a model may be loaded in, as safetensors names them."""

_NAMES = ("model.safetensors", "pytorch_model.bin")


@dataclass(frozen=True)
class WeightFiles:
    """How a checkpoint keeps its weights.

    Attributes:
        dtype: the dtype of most of them; None where it is not known.
        dtypes: the dtype of each, by its name in the files.
        shard_bytes: the most bytes of weights that a file has, of several; None where they are not divided.
        mode: permissions of a file; None where there is none.
    """

    dtype: torch.dtype | None = None
    dtypes: Mapping[str, torch.dtype] | None = None
    shard_bytes: int | None = None
    mode: int | None = None

    @classmethod
    def of(cls, path: str | Path, revision: str | None = None) -> WeightFiles:
        """Return how a checkpoint keeps its weights: a directory's, or that of a name on the hub.

        Where it is an adapter (LoRA), that of its model.
        """
        if adapted := find_adapted(path, revision):
            path, revision = adapted.base, adapted.base_revision
        found = _files(path, revision)
        dtypes = {name: dtype for file in found for name, dtype in _dtypes(file).items()}
        counts = Counter(dtypes.values())
        dtype = counts.most_common(1)[0][0] if counts else _dtype_of_config(path, revision)
        if not found:
            return cls(dtype)
        mode = found[0].stat().st_mode & 0o777 | 0o200
        return cls(dtype, dtypes, max(map(_weight_bytes, found)) if len(found) > 1 else None, mode)

    def save(self, model: PreTrainedModel, path: Path) -> None:
        """Write a model's config and weights, in these dtypes, in files of these sizes and permissions.

        The model's own weights are brought to these dtypes. What is not known is as the model has it, and as
        any new file. The digests of all weights in the directory are written beside them.
        """
        self._restore_dtypes_(model)
        model.save_pretrained(path, max_shard_size=self.shard_bytes or "50GB")
        # safetensors gives its files to their owner alone.
        mode = (path / "config.json").stat().st_mode & 0o777 if self.mode is None else self.mode
        for file in path.glob(WEIGHT_FILES):
            os.chmod(file, mode)
        write_digests(path, WEIGHT_FILES)

    def _restore_dtypes_(self, model: PreTrainedModel) -> None:
        if self.dtype is None:
            return
        for name, weight in model.state_dict(keep_vars=True).items():
            dtype = (self.dtypes or {}).get(name, self.dtype)
            if weight.is_floating_point() and weight.dtype != dtype:
                weight.data = weight.data.to(dtype)
        model.config.dtype = self.dtype


def _files(path: str | Path, revision: str | None) -> list[Path]:
    """Return the files of a checkpoint's weights, in the format that is loaded."""
    for name in _NAMES:
        if index := _file(path, f"{name}.index.json", revision):
            shards = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
            return [file for shard in shards if (file := _file(path, shard, revision))]
        if file := _file(path, name, revision):
            return [file]
    return []


def _file(path: str | Path, name: str, revision: str | None) -> Path | None:
    """Return a file of a directory, or of a checkpoint of the hub that is on this machine already."""
    local = Path(path).expanduser()
    if local.is_dir():
        return local / name if (local / name).is_file() else None
    with suppress(OSError):
        found = cached_file(str(path), name, revision=revision, local_files_only=True)
        return None if found is None else Path(found)
    return None


def _dtypes(file: Path) -> dict[str, torch.dtype]:
    try:
        with safe_open(file, framework="pt") as tensors:
            named = {name: tensors.get_slice(name).get_dtype() for name in tensors.keys()}  # noqa: SIM118
    except SafetensorError:  # another format, which does not say without being read
        return {}
    return {name: _DTYPES[dtype] for name, dtype in named.items() if dtype in _DTYPES}


def _weight_bytes(file: Path) -> int:
    """Return the bytes of a file without the header of safetensors, whose first eight say how long it is.

    With the most that a file has as the limit, weights are cut into files as they were with a larger one.
    """
    size = file.stat().st_size
    if file.suffix != ".safetensors":
        return size
    with file.open("rb") as opened:
        return size - 8 - int.from_bytes(opened.read(8), "little")


def _dtype_of_config(path: str | Path, revision: str | None) -> torch.dtype | None:
    """Return the dtype that config.json names, which is read alone: code of the checkpoint's is not run."""
    written, _ = PreTrainedConfig.get_config_dict(path, revision=revision)
    named = getattr(torch, str(written.get("dtype") or written.get("torch_dtype")), None)
    return named if isinstance(named, torch.dtype) else None
