"""The weights of attention and of the whole body as tensors to write to, for methods that change them."""

from __future__ import annotations

from typing import Any, NamedTuple

from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from nvreg.digests import body_parameters
from nvreg.errors import UserError
from nvreg.models.adapter import Adapter
from nvreg.models.projections import has_numbers, is_linear, is_plain
from nvreg.models.registry import attention_modules
from nvreg.models.site import Site


class AttentionWeights(NamedTuple):
    """Views of one site's weights; whichever side is transposed, the first dimension by itself is one side.

    Attributes:
        key: the weight of the key projection.
        value: the weight of the value projection.
        output: the weight of the projection that mixes the heads.
    """

    key: Tensor
    value: Tensor
    output: Tensor


def attention_weights(model: PreTrainedModel) -> dict[Site, AttentionWeights]:
    """Return views of the weights of every site, in forward order; what several sites share is the first's.

    Raises:
        UserError: if the architecture is not supported, or the weights are quantised or have adapters.
    """
    found, seen = {}, set()
    for site, (adapter, module) in attention_modules(model).items():
        if module in seen:
            continue
        seen.add(module)
        output: Any = model.base_model.get_submodule(_output_path(site, adapter))
        linears = [getattr(module, name) for name in adapter.key_value_modules]
        if not all(map(is_plain, [*linears, output])):
            raise _not_plain(site.name)
        found[site] = AttentionWeights(*adapter.weights(module), output.weight.detach())
    return found


def body_matrices(model: PreTrainedModel) -> list[Tensor]:
    """Return views of the matrices of a model's body, shape (..., out, in); experts are stacked.

    Embeddings, what is tied to them, heads, norms and the routers of experts are not among them.

    Raises:
        UserError: if weights are quantised or have adapters, or the body has no such matrix.
    """
    output = model.get_output_embeddings()
    apart = [module for module in model.modules() if isinstance(module, nn.Embedding) or module is output]
    body = {id(parameter) for parameter in body_parameters(model).values()}
    body -= {id(parameter) for module in apart for parameter in module.parameters()}
    found: dict[int, Tensor] = {}
    for name, module in model.base_model.named_modules():
        is_quantised = isinstance(module, nn.Linear | Conv1D) and not has_numbers(module)
        if is_quantised or hasattr(module, "base_layer"):  # which adapters have
            raise _not_plain(name)
        if "router" in name.split("."):
            continue  # some are linear modules inside a router
        for parameter in module.parameters(recurse=False):
            if id(parameter) in body and parameter.ndim == _dimensions(module):
                weight = parameter.detach()
                found[id(parameter)] = weight.mT if _is_transposed(module) else weight
    if not found or getattr(model, "is_quantized", False):
        raise _not_plain(type(model).__name__)
    return list(found.values())


def _dimensions(module: nn.Module) -> int:
    """Return how many dimensions the matrices of a module have; 0 if it has none that are to be changed."""
    return 2 if is_linear(module) else 3 if hasattr(module, "is_transposed") else 0


def _is_transposed(module: Any) -> bool:
    return isinstance(module, Conv1D) or getattr(module, "is_transposed", False)


def _not_plain(name: str) -> UserError:
    return UserError(
        f"{name}: expected plain weights to change, got quantised ones or adapters; "
        "merge adapters with merge_and_unload(), load the model unquantised"
    )


def _output_path(site: Site, adapter: Adapter) -> str:
    path = adapter.output_projection
    parent, _, _ = site.path.rpartition(".")
    return f"{parent}.{path[2:]}" if path.startswith("..") else f"{site.path}.{path}"
