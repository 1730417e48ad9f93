"""Which model is this? Architecture and digests of its weights, in float32 or one half precision the same."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedConfig, PreTrainedModel

from nvreg.errors import UserError

HEAD_PREFIXES = ("pooler.", "lm_head.")
"""Parameters that some of a body's heads have and others have not."""

_NOT_OF_OUTPUTS = {"architectures", "dtype", "nvreg", "torch_dtype", "transformers_version", "use_cache"}

_DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True)
class BodyDigest:
    """Architecture of the body and a digest of its weights in each half precision they can be rounded to.

    A model loaded in float16 can only be compared in float16, one loaded in bfloat16 only in bfloat16.
    """

    architecture: str
    digests: Mapping[str, str]

    def matches(self, other: BodyDigest) -> bool:
        """Whether both are the same body, judged in a dtype that both have."""
        common = self.digests.keys() & other.digests.keys()
        return self.architecture == other.architecture and any(
            self.digests[name] == other.digests[name] for name in common
        )

    def __str__(self) -> str:
        digest = next(iter(self.digests.values()), "")
        return f"{self.architecture} {digest[:12]}"


def body_parameters(model: PreTrainedModel) -> dict[str, torch.nn.Parameter]:
    """Return the parameters of a model's body by their names in it, without those of heads."""
    named = model.base_model.named_parameters()
    return {name: parameter for name, parameter in named if not name.startswith(HEAD_PREFIXES)}


def body_digest(model: PreTrainedModel) -> BodyDigest:
    """Return the digest of a model's body; heads do not count, so a prior serves every head."""
    dtypes = {
        name: dtype for name, dtype in _DTYPES.items() if model.dtype in (dtype, torch.float32, torch.float64)
    }
    digests = {name: hashlib.sha256() for name in dtypes}
    for parameter, tensor in body_parameters(model).items():
        numbers = _numbers(tensor, model.base_model, parameter)
        for name, dtype in dtypes.items():
            rounded = numbers.to("cpu", dtype).contiguous()
            digests[name].update(f"{parameter} {tuple(tensor.shape)}".encode())
            digests[name].update(rounded.view(torch.int16).numpy().data)
    kind = type(model.config).model_type  # a config may keep another name that its file has
    return BodyDigest(kind, {name: digest.hexdigest() for name, digest in digests.items()})


def fingerprint(model: PreTrainedModel) -> str:
    """Return a digest of a model's class, parameters, buffers and dtypes."""
    digest = hashlib.sha256(type(model).__name__.encode())
    for name, tensor in model.state_dict().items():
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        numbers = _numbers(tensor, model, name).cpu().contiguous()
        digest.update(numbers.flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()[:16]


def options_of(config: PreTrainedConfig) -> dict[str, Any]:
    """Return, as JSON-safe data, what of a config can change outputs: not where it is from, nor its dtype."""
    return _of_outputs(json.loads(config.to_json_string(use_diff=False)))


def _of_outputs(options: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: _of_outputs(value) if isinstance(value, dict) else value
        for name, value in options.items()
        if not name.startswith("_") and name not in _NOT_OF_OUTPUTS
    }


def _numbers(tensor: Tensor, root: torch.nn.Module, name: str) -> Tensor:
    """Return a weight of this name, what a quantised one stands for, or one that accelerate has offloaded."""
    tensor = tensor.detach()
    if not tensor.is_meta:
        return tensor if type(tensor) is Tensor else tensor.dequantize()
    from accelerate.utils import align_module_device  # who offloads has it

    path, _, own_name = name.rpartition(".")
    module = root.get_submodule(path)
    with align_module_device(module, "cpu"):
        if (weight := getattr(module, own_name)).is_meta:
            raise UserError(
                f"expected weights in memory, got {name} on the meta device; load the model's weights"
            )
        return weight.detach().clone()
