"""Which modules of a model call its attention function: found by what their code names, not by a list."""

from __future__ import annotations

import ast
import functools
import inspect
import re
import textwrap
from collections import Counter
from collections.abc import Iterable, Iterator
from types import CodeType, FunctionType
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel

from nvreg.errors import UserError
from nvreg.models.cache import without_cache
from nvreg.models.site import Site
from nvreg.models.teacher_forcing import device_of

_INTERFACE = "ALL_ATTENTION_FUNCTIONS"
"""Where Transformers' attention modules look their attention function up."""

_TAKEN = frozenset(
    {"query", "key", "value", "attention_mask", "scaling", "is_causal"}
    | {"position_bias", "softcap", "s_aux", "indices"}
)
"""What `nvreg.models.heads.attention_forward` takes by name."""

_PASSED_OVER = frozenset(
    {"dropout", "deterministic", "output_attentions", "sliding_window", "position_ids"}
    | {"cu_seq_lens_q", "cu_seq_lens_k", "max_length_q", "max_length_k"}
)
"""What it passes over: it is of training or of other kernels, or the mask says the same."""

_SOFTMAX = frozenset({"softmax", "Softmax", "scaled_dot_product_attention", "multi_head_attention_forward"})

_ROUTER = re.compile("Router|Gating|Gate|FFN$")
"""What a class is called whose softmax divides tokens among experts."""

_MERGED = re.compile("Merged")
"""What a class is called whose softmax is over the decoder's text and the encoder's."""

_REPEATING = ("albert", "hrm_text")
"""Model types whose forward pass runs the same layers several times."""

_CROSS = re.compile("cross|enc_?dec|encoder_att", re.IGNORECASE)
"""What a module of cross-attention is called."""


def dispatching_modules(model: PreTrainedModel) -> dict[Site, Any]:
    """Return the softmax attention modules of an unconverted model that call the attention function.

    Sites are in the order of the modules. What `left_alone` returns has none.

    Raises:
        UserError: if some softmax attention does not call it, or calls it several times, or is over two
            texts, or there is none, or an encoder-decoder model lacks its encoder.
    """
    found: dict[Site, Any] = {}
    layers: Counter[str] = Counter()
    for name, module, role in _attention(model):
        kind: Any = type(module)
        if role is None:
            continue
        if _INTERFACE not in _names_of_class(kind):
            raise UserError(
                f"this {model.config.model_type} cannot be converted in head space: the softmax of "
                f"{kind.__name__} at {name!r} does not go through Transformers' attention interface"
            )
        if unknown := sorted(_options(kind) - _TAKEN - _PASSED_OVER):
            raise UserError(
                f"this {model.config.model_type} cannot be converted in head space: the attention function "
                f"of {kind.__name__} at {name!r} is given {', '.join(unknown)}, which nvreg's does not take"
            )
        if len(_calls(kind)) > 1:
            raise UserError(
                f"this {model.config.model_type} cannot be converted in head space: the attention function "
                f"of {kind.__name__} at {name!r} is called several times, each with values of its own"
            )
        if _MERGED.search(kind.__name__):
            raise UserError(
                f"this {model.config.model_type} cannot be converted in head space: the softmax of "
                f"{kind.__name__} at {name!r} is over two texts at once"
            )
        found[Site(name, role, layers[role], 0)] = module
        layers[role] += 1
    if not found:
        raise UserError(
            f"this {model.config.model_type} cannot be converted in head space: no softmax attention of "
            f"{type(model).__name__} goes through Transformers' attention interface"
        )
    if layers["cross"] and not layers["encoder"]:
        raise UserError(
            f"expected the encoder with the decoder, got {type(model).__name__} with cross-attention alone; "
            "convert the encoder-decoder model that it is part of"
        )
    return by_run(model, found)


def by_run(model: PreTrainedModel, modules: dict[Site, Any]) -> dict[Site, Any]:
    """Return a site for every run of modules that run several times, in the order of a forward pass."""
    if model.config.model_type not in _REPEATING:
        return modules
    order: list[Site] = []
    hooks = [
        module.register_forward_pre_hook(lambda *_, site=site: order.append(site))
        for site, module in modules.items()
    ]
    was_training = model.training
    body: Any = model.base_model
    try:
        model.eval()
        with torch.no_grad():
            body(
                input_ids=torch.zeros(1, 2, dtype=torch.int64, device=device_of(model)), **without_cache(body)
            )
    finally:
        model.train(was_training)
        for hook in hooks:
            hook.remove()
    runs, layers = Counter(order), Counter[str]()
    seen: Counter[Site] = Counter()
    found = {}
    for site in order:
        name = f"{site.name}#{seen[site]}" if runs[site] > 1 else site.name
        found[site._replace(name=name, layer=layers[site.role])] = modules[site]
        seen[site] += 1
        layers[site.role] += 1
    return found


def left_alone(model: PreTrainedModel, sites: Iterable[Site]) -> dict[str, str]:
    """Return what has no sites beside what has: classes by names.

    They are layers without softmax attention, and what a model has beside its text: towers of images or
    sound, and attention to what they return.

    Args:
        model: converted or not.
        sites: the sites of the model.
    """
    named = {site.name for site in sites}
    stacks: dict[str, set[int]] = {}
    for name in named:
        if parts := re.fullmatch(r"(.*?)\.?\b(\d+)\..*", name):
            stacks.setdefault(parts[1], set()).add(int(parts[2]))
    found = {}
    for stack, present in stacks.items():
        layers: Any = model.base_model.get_submodule(stack)
        for index, layer in enumerate(layers):
            if index not in present:
                found[f"{stack}.{index}"] = type(layer).__name__
    found |= {name: type(tower).__name__ for name, tower in _towers(model).items()}
    for name, module, role in _attention(model):
        is_part = any(name.startswith(f"{whole}.") for whole in found)
        if role is None and name not in named and not is_part:
            found[name] = type(module).__name__
    return found


def scale_of(module: Any, key_width: int) -> float | None:
    """Return the scale c that a module's code gives to the attention function; None if it cannot be told."""
    kind: Any = getattr(module, "plain_class", type(module))
    expression = _scale_expression(kind)
    if expression is None:
        return None
    code, names = expression
    try:
        scale = eval(code, names, {"self": module})
    except (AttributeError, NameError):
        return None
    return key_width**-0.5 if scale is None else float(scale)


@functools.cache
def _scale_expression(kind: Any) -> tuple[CodeType, dict[str, Any]] | None:
    """Return the argument ``scaling`` of the call in a class's code, and where its names are looked up."""
    for keywords, names in _calls(kind):
        return compile(ast.Expression(keywords["scaling"]), "scaling", "eval"), names
    return None


@functools.cache
def _options(kind: Any) -> frozenset[str]:
    """Return what a class's code gives to the attention function by name."""
    return frozenset(option for keywords, _ in _calls(kind) for option in keywords)


@functools.cache
def _calls(kind: Any) -> list[tuple[dict[str, ast.expr], dict[str, Any]]]:
    """Return, by name, what calls of the attention function are given, and where names are looked up."""
    found = []
    for function in _methods(kind):
        if _INTERFACE not in function.__code__.co_names:
            continue
        try:
            source = inspect.getsource(function)
        except OSError:  # code that was typed in
            continue
        for node in ast.walk(ast.parse(textwrap.dedent(source))):
            if isinstance(node, ast.Call):
                keywords = {each.arg: each.value for each in node.keywords if each.arg is not None}
                if "scaling" in keywords:
                    found.append((keywords, function.__globals__))
    return found


def _attention(model: PreTrainedModel) -> Iterator[tuple[str, Any, str | None]]:
    """Yield name, module and role of all softmax attention outside of towers; None is that to no text."""
    towers = tuple(f"{name}." for name in _towers(model))
    text = _text_configs(model)
    for name, module in model.base_model.named_modules():
        kind: Any = type(module)
        if isinstance(module, PreTrainedModel) or name.startswith(towers):
            continue
        named = _names_of_class(kind)
        dispatches = _INTERFACE in named
        is_own = named & _SOFTMAX and not _ROUTER.search(kind.__name__)
        if dispatches or is_own or isinstance(module, nn.MultiheadAttention):
            is_of_text = not dispatches or type(module.config) in text
            yield name, module, _role(model, module, name) if is_of_text else None


def _towers(model: PreTrainedModel) -> dict[str, PreTrainedModel]:
    """Return the parts of a model that neither read nor write its text, without the parts of these."""
    text = _text_configs(model)
    found: dict[str, PreTrainedModel] = {}
    for name, part in model.base_model.named_modules():
        is_tower = isinstance(part, PreTrainedModel) and type(part.config) not in text
        if is_tower and not name.startswith(tuple(f"{tower}." for tower in found)):
            found[name] = part
    return found


def _text_configs(model: PreTrainedModel) -> set[type]:
    """Return the types of config that modules have which read or write the model's text."""
    body: Any = model.base_model
    parts = [model, body]
    if model.config.is_encoder_decoder:
        parts += [body.get_encoder(), body.get_decoder()]
    configs = [getattr(part, "config", None) for part in parts]
    return {
        type(each)
        for config in configs
        if isinstance(config, PreTrainedConfig)  # which a model that peft wraps has too
        for each in (config, config.get_text_config())
    }


def _role(model: PreTrainedModel, module: Any, name: str) -> str | None:
    """Return what an attention module is for; None if it attends to what is no text."""
    is_pair = model.config.is_encoder_decoder
    if getattr(module, "is_cross_attention", False) or _CROSS.search(name + type(module).__name__):
        return "cross" if is_pair or getattr(model.config, "add_cross_attention", False) else None
    if is_pair:
        return "encoder" if "encoder" in name and "decoder" not in name else "decoder"
    is_causal = getattr(module, "is_causal", getattr(module, "is_decoder", True))
    return "decoder" if is_causal else "encoder"


@functools.cache
def _names_of_class(kind: Any) -> frozenset[str]:
    """Return what the methods of a module's class name: functions, classes and attributes."""
    return frozenset(name for function in _methods(kind) for name in _names_of_function(function))


def _methods(kind: Any) -> Iterator[FunctionType]:
    """Yield the methods of a module's class, and those of its bases that they do not override."""
    overridden: set[str] = set()
    for base in kind.__mro__:
        if base.__module__.startswith("torch."):
            break
        for name, member in vars(base).items():
            function = inspect.unwrap(getattr(member, "__func__", member))
            if name in overridden or not isinstance(function, FunctionType):
                continue
            if "super" not in function.__code__.co_names:
                overridden.add(name)
            yield function


def _names_of_function(function: FunctionType, depth: int = 1) -> Iterator[str]:
    """Yield the names in a function, and in those of its module's functions that it names."""
    for code in _codes(function.__code__):
        yield from code.co_names
        for name in code.co_names if depth else ():
            other = function.__globals__.get(name)
            if isinstance(other, FunctionType):
                yield from _names_of_function(inspect.unwrap(other), depth - 1)


def _codes(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _codes(constant)
