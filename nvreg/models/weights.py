"""The weights of attention as tensors to write to, for methods that change them."""

from __future__ import annotations

from typing import Any, NamedTuple

from torch import Tensor
from transformers import PreTrainedModel

from nvreg.errors import UserError
from nvreg.models.adapter import Adapter
from nvreg.models.projections import is_plain
from nvreg.models.registry import attention_modules
from nvreg.models.site import Site


class AttentionWeights(NamedTuple):
    """Views of one site's weights; whichever side is transposed, the first dimension by itself is one side.

    Attributes:
        key: of the key projection.
        value: of the value projection.
        output: of the projection that mixes the heads.
    """

    key: Tensor
    value: Tensor
    output: Tensor


def attention_weights(model: PreTrainedModel) -> dict[Site, AttentionWeights]:
    """Return views of the weights of every site, in forward order.

    Raises:
        UserError: if the architecture is not supported, or the weights are quantised or have adapters.
    """
    found = {}
    for site, (adapter, module) in attention_modules(model).items():
        output: Any = model.base_model.get_submodule(_output_path(site, adapter))
        linears = [getattr(module, name) for name in adapter.key_value_modules]
        if not all(map(is_plain, [*linears, output])):
            raise UserError(
                f"{site.name}: expected plain weights to change, got quantised ones or adapters; "
                "merge adapters with merge_and_unload(), load the model unquantised"
            )
        found[site] = AttentionWeights(*adapter.weights(module), output.weight.detach())
    return found


def _output_path(site: Site, adapter: Adapter) -> str:
    path = adapter.output_projection
    parent, _, _ = site.name.rpartition(".")
    return f"{parent}.{path[2:]}" if path.startswith("..") else f"{site.name}.{path}"
