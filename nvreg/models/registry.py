"""Which architectures nvreg has a layout for, which it refuses and why, and the sites of a model."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from torch import nn
from transformers import CONFIG_MAPPING, PreTrainedConfig, PreTrainedModel

from nvreg.errors import UserError
from nvreg.models.adapter import Adapter
from nvreg.models.conversion import conversion_of
from nvreg.models.dispatching import by_run, dispatching_modules
from nvreg.models.layouts.bart import BartAdapter, OPTAdapter, XGLMAdapter
from nvreg.models.layouts.bert import AlbertAdapter, BertAdapter, MegatronBertAdapter, MPNetAdapter
from nvreg.models.layouts.distilbert import DistilBertAdapter
from nvreg.models.layouts.gpt2 import GPT2Adapter, GPTBigCodeAdapter
from nvreg.models.layouts.gpt_neo import GPTNeoAdapter
from nvreg.models.layouts.gptj import GPTJAdapter
from nvreg.models.layouts.llama import (
    CohereAdapter,
    EuroBertAdapter,
    GlmAdapter,
    LlamaAdapter,
    Ministral3Adapter,
    PhiAdapter,
    SmolLM3Adapter,
)
from nvreg.models.layouts.neox import FalconAdapter, ModernBertAdapter, NeoXAdapter, Phi3Adapter
from nvreg.models.layouts.t5 import T5Adapter, UMT5Adapter
from nvreg.models.site import Site, Space, layers_of

ADAPTERS: tuple[Adapter, ...] = (
    BartAdapter(),
    T5Adapter(),
    UMT5Adapter(),
    BertAdapter(),
    MegatronBertAdapter(),
    AlbertAdapter(),
    MPNetAdapter(),
    DistilBertAdapter(),
    GPT2Adapter(),
    GPTBigCodeAdapter(),
    GPTNeoAdapter(),
    OPTAdapter(),
    XGLMAdapter(),
    LlamaAdapter(),
    EuroBertAdapter(),
    Ministral3Adapter(),
    PhiAdapter(),
    SmolLM3Adapter(),
    CohereAdapter(),
    GlmAdapter(),
    NeoXAdapter(),
    Phi3Adapter(),
    ModernBertAdapter(),
    FalconAdapter(),
    GPTJAdapter(),
)

_KEYS_CLIPPED = "keys are clipped after projection"
_KEY_NORM = "keys are normalised after projection"
_SOFT_CAP = "logits are capped after the product"
_LATENT = "keys are expanded from a latent vector"
_SINK = "the softmax has a learned sink of its own"
_SPARSE = "attention is sparse, computed over blocks of tokens"
_DISENTANGLED = "attention is disentangled: keys depend on position and content separately"

REFUSED: Mapping[str, str] = {
    model_type: reason
    for reason, model_types in {
        _KEYS_CLIPPED: "dbrx",
        _KEY_NORM: (
            "apertus dots1 exaone4 flex_olmo gemma3 gemma3_text gemma3n gemma3n_text gemma4 gemma4_text "
            "hunyuan_v1_dense hunyuan_v1_moe lfm2 lfm2_moe minimax_m2 nanochat olmo2 olmo3 olmoe persimmon "
            "qwen3 qwen3_moe qwen3_next qwen3_5 qwen3_5_moe qwen3_5_text t5gemma2"
        ),
        _SOFT_CAP: "gemma2 t5gemma vaultgemma",
        _LATENT: "deepseek_v2 deepseek_v3 deepseek_v32 glm4_moe_lite kimi_linear minicpm3",
        _SINK: "gpt_oss",
        _SPARSE: "big_bird bigbird_pegasus led longformer longt5 pegasus_x",
        _DISENTANGLED: "deberta deberta-v2",
    }.items()
    for model_type in model_types.split()
}
"""Model types whose attention the method does not express, and why (docs/method.md, section 5)."""

_BY_MODEL_TYPE: Mapping[str, Adapter] = {
    model_type: adapter for adapter in ADAPTERS for model_type in adapter.attention_classes
}


def layouts() -> dict[str, list[str]]:
    """Return every layout, named after its file in nvreg/models/layouts, and its model types."""
    found: defaultdict[str, list[str]] = defaultdict(list)
    for adapter in ADAPTERS:
        found[type(adapter).__module__.rpartition(".")[2]] += adapter.attention_classes
    return dict(found)


def refused_options() -> list[tuple[str, str]]:
    """Return the model types that are converted but with some option, each with the option's name."""
    return [
        (model_type, option)
        for adapter in ADAPTERS
        for option in adapter.refused_options
        for model_type in adapter.attention_classes
        if hasattr(CONFIG_MAPPING[model_type], option)
    ]


def supported_model_types() -> list[str]:
    """Return the model types that `adapter_for` accepts."""
    return sorted(_BY_MODEL_TYPE)


def adapter_for(config: PreTrainedConfig) -> Adapter:
    """Return the adapter of a model's architecture.

    Raises:
        UserError: if nvreg does not convert it; the message says why, or lists what it converts.
    """
    model_type = type(config).model_type  # GPT-SW3 is GPT-2 by another name
    if model_type not in _BY_MODEL_TYPE:
        why = f", which cannot be converted: {REFUSED[model_type]}" if model_type in REFUSED else ""
        raise UserError(
            f"expected an architecture that nvreg converts ({', '.join(supported_model_types())}), "
            f"got {model_type!r}{why}"
        )
    adapter = _BY_MODEL_TYPE[model_type]
    if reason := adapter.refusal(config):
        raise UserError(f"this {model_type} cannot be converted: {reason}")
    return adapter


def adapters_by_class(config: PreTrainedConfig) -> dict[str, Adapter]:
    """Return the attention classes of a model and their adapters; an EncoderDecoderModel has two layouts.

    Raises:
        UserError: if the architecture is not supported.
    """
    halves = (config.encoder, config.decoder) if config.model_type == "encoder-decoder" else (config,)
    adapters = {type(half).model_type: adapter_for(half) for half in halves}
    return {adapter.attention_classes[name]: adapter for name, adapter in adapters.items()}


def attention_modules(model: PreTrainedModel) -> dict[Site, tuple[Adapter, Any]]:
    """Return every attention site of a model, in forward order: of a converted one, those that were found.

    Raises:
        UserError: if the architecture is not supported, an attention module is not Transformers' own or is
            missing from a layer, or an encoder-decoder model lacks its encoder.
    """
    if conversion := conversion_of(model):
        states = conversion.states
        return {site: (states[site].adapter, module) for site, module in conversion.sites.items()}
    try:
        adapters = adapters_by_class(model.config)
    except UserError as error:
        raise UserError(f"{error}{_in_head_space(model)}") from None
    found: dict[Site, tuple[Adapter, Any]] = {}
    layers: defaultdict[tuple[str, str], list[int]] = defaultdict(list)
    for name, module in model.base_model.named_modules():
        if (adapter := _adapter_of(module, name, adapters)) is None:
            continue
        stack, layer, _ = _path(name)
        site = Site(name, adapter.role(module, name), int(layer), adapter.width(module))
        layers[site.role, stack].append(site.layer)
        found[site] = (adapter, module)
    for (role, stack), present in layers.items():
        stacked: Any = model.base_model.get_submodule(stack)
        if missing := set(range(len(stacked))) - set(present):
            raise UserError(
                f"expected {role} attention of Transformers' own in every layer of {stack!r}, found none in "
                f"layer {', '.join(map(str, sorted(missing)))}; give the model its attention back"
            )
    if not found:
        raise UserError(
            f"expected Transformers' own attention ({', '.join(adapters)}) in the model, "
            f"got {type(model).__name__} without any; give the model its attention back"
        )
    roles = {site.role for site in found}
    if "cross" in roles and "encoder" not in roles:
        raise UserError(
            f"expected the encoder with the decoder, got {type(model).__name__} with cross-attention alone; "
            "convert the encoder-decoder model that it is part of"
        )
    adapter_of = {module: adapter for adapter, module in found.values()}
    modules = by_run(model, {site: module for site, (_, module) in found.items()})
    return {site: (adapter_of[module], module) for site, module in modules.items()}


def _path(name: str) -> list[str]:
    """Return the stack of layers, the number of the layer in it, and what follows, of a module's path."""
    return re.split(r"\.(\d+)\.", name, maxsplit=1)


def _in_head_space(model: PreTrainedModel) -> str:
    """Return the end of a message: that a model which has no layout here is converted in head space."""
    try:
        dispatching_modules(model)
    except UserError:
        return ""
    return "; convert it in head space (--space heads, method nv-heads)"


def _adapter_of(module: Any, name: str, adapters: Mapping[str, Adapter]) -> Adapter | None:
    """Return the adapter of an attention module, None for any other.

    Raises:
        UserError: if the module is of another class of the same name, or of a subclass.
    """
    plain = type(module)
    for pattern, adapter in adapters.items():
        if any(re.fullmatch(pattern, base.__name__) for base in plain.__mro__):
            if plain.__module__.startswith("transformers.") and re.fullmatch(pattern, plain.__name__):
                return adapter
            raise UserError(
                f"expected Transformers' own attention at {name!r}, got {plain.__qualname__} of "
                f"{plain.__module__}, which may compute something else; give the model its attention back"
            )
    return None


def space_of(model: PreTrainedModel) -> Space:
    """Return the space that a model is converted in; else that of the published form, where it has one."""
    if conversion := conversion_of(model):
        return conversion.space
    try:
        adapters_by_class(model.config)
    except UserError:
        return "heads"
    return "inputs"


def site_modules(model: PreTrainedModel, space: Space | None = None) -> dict[Site, Any]:
    """Return the module of every attention site of a model, in forward order.

    Args:
        model: one that is converted has the sites that it was converted at.
        space: the space of an unconverted model; by default `space_of` it.

    Raises:
        UserError: if the architecture is not supported in this space.
    """
    if conversion := conversion_of(model):
        return dict(conversion.sites)
    if (space or space_of(model)) == "heads":
        return dispatching_modules(model)
    return {site: module for site, (_, module) in attention_modules(model).items()}


def sites(model: PreTrainedModel, space: Space | None = None) -> list[Site]:
    """Return the attention sites of a model in forward order.

    Args:
        model: converted or not.
        space: ``inputs``, where keys and values are projected from, or ``heads``, what the attention function
            is given; by default that in which the model is converted, or ``inputs``.

    Raises:
        UserError: if the architecture is not supported in this space.
        ValueError: if the model is converted in the other space.
    """
    conversion = conversion_of(model)
    if conversion and space not in (None, conversion.space):
        raise ValueError(
            f"expected the unconverted model for its sites in {space!r} space, got one that is converted in "
            f"{conversion.space!r}; call nvreg.revert_(model) first"
        )
    return list(site_modules(model, space or (conversion.space if conversion else "inputs")))


def layers_by_role(model: PreTrainedModel, space: Space | None = None) -> dict[str, int]:
    """Return how many layers each role of a model has, for the roles it has; as `site_modules`."""
    return layers_of(site_modules(model, space))


def layer_modules(model: PreTrainedModel, space: Space | None = None) -> dict[Site, nn.Module]:
    """Return, for every attention site, the layer that it is in; as `site_modules`."""
    found = {}
    for site in site_modules(model, space):
        stack, layer, _ = _path(site.name)
        found[site] = model.base_model.get_submodule(f"{stack}.{layer}")
    return found
