"""Which architectures nvreg converts, by layout, and which it refuses and why."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from transformers import PreTrainedModel

from nvreg.attention.settings import ROLES
from nvreg.errors import UserError
from nvreg.models.adapter import Adapter
from nvreg.models.layouts.bart import BartAdapter
from nvreg.models.state import NVForward, Site

ADAPTERS: tuple[Adapter, ...] = (BartAdapter(),)

_BY_MODEL_TYPE: Mapping[str, Adapter] = {
    model_type: adapter for adapter in ADAPTERS for model_type in adapter.attention_classes
}


def supported_model_types() -> list[str]:
    """Return the model types that `adapter_for` accepts."""
    return sorted(_BY_MODEL_TYPE)


def adapter_for(model_type: str) -> Adapter:
    """Return the adapter of a model type, as in ``config.model_type``.

    Raises:
        UserError: if nvreg does not convert it; the message lists what it converts.
    """
    if model_type not in _BY_MODEL_TYPE:
        raise UserError(
            f"expected an architecture that nvreg converts ({', '.join(supported_model_types())}), "
            f"got {model_type!r}"
        )
    return _BY_MODEL_TYPE[model_type]


def attention_modules(model: PreTrainedModel) -> dict[Site, tuple[Adapter, Any]]:
    """Return every attention site of a model, plain or converted, in forward order.

    Raises:
        UserError: if the architecture is not supported.
    """
    adapter = adapter_for(model.config.model_type)
    class_name = adapter.attention_classes[model.config.model_type]
    found = {}
    for name, module in model.base_model.named_modules():
        plain = type(module).__mro__[2] if isinstance(module, NVForward) else type(module)
        if plain.__name__ == class_name:
            layer = int(re.findall(r"\d+", name)[0])
            found[Site(name, adapter.role(module, name), layer, adapter.width(module))] = (adapter, module)
    return found


def sites(model: PreTrainedModel) -> list[Site]:
    """Return the attention sites of a model in forward order.

    Raises:
        UserError: if the architecture is not supported.
    """
    return list(attention_modules(model))


def layers_by_role(model: PreTrainedModel) -> dict[str, int]:
    """Return how many layers each role of a model has, for the roles it has."""
    roles = [site.role for site in sites(model)]
    return {role: roles.count(role) for role in ROLES if role in roles}
