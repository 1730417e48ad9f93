"""Dropout sites: where a model's body reads a dropout rate, and which parameters feed each.

Transformers reads some rates from `torch.nn.Dropout`, others from a number on the module that drops or that
hands it to its attention function. A site is either, under the name of its module or number relative to
`model.base_model`, so that a body has the same sites under every head.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from transformers import PreTrainedModel

from nvreg.errors import UserError

_BERT = {
    r"embeddings\.dropout": ("word_embeddings", "position_embeddings", "token_type_embeddings", "LayerNorm"),
    r".*attention\.self\.dropout": ("query", "key", "value"),
    r".*output\.dropout": ("dense", "LayerNorm"),
}
_DISTILBERT = {
    r"embeddings\.dropout": ("word_embeddings", "position_embeddings", "LayerNorm"),
    r".*attention\.dropout": ("q_lin", "k_lin", "v_lin"),
    r".*ffn\.dropout": ("lin2",),
}
_GPT2 = {
    r"drop": ("wte", "wpe"),
    r".*attn_dropout": ("q_attn", "c_attn"),
    r".*resid_dropout": ("c_proj",),
    r".*mlp\.dropout": ("c_proj",),
}
_BART = {
    r"(encoder|decoder)\.dropout": ("embed_tokens", "embed_positions", "layernorm_embedding"),
    r".*_attn\.dropout": ("q_proj", "k_proj", "v_proj"),
    r".*\.activation_dropout": ("fc1",),
    r".*layers\.\d+\.dropout": (
        *("self_attn.out_proj", "self_attn_layer_norm"),
        *("encoder_attn.out_proj", "encoder_attn_layer_norm"),
        *("fc2", "final_layer_norm"),
    ),
}
_T5 = {
    r"(encoder|decoder)\.dropout": ("embed_tokens", "final_layer_norm"),
    r".*Attention\.dropout": ("q", "k", "v"),
    r".*DenseReluDense\.dropout": ("wi", "wi_0", "wi_1"),
    r".*layer\.\d+\.dropout": ("SelfAttention.o", "EncDecAttention.o", "DenseReluDense.wo"),
}
_FED_BY: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "bert": _BERT,
    "roberta": _BERT,
    "xlm-roberta": _BERT,
    "distilbert": _DISTILBERT,
    "gpt2": _GPT2,
    "bart": _BART,
    "blenderbot": _BART,
    "blenderbot-small": _BART,
    "m2m_100": _BART,
    "marian": _BART,
    "mbart": _BART,
    "pegasus": _BART,
    "plbart": _BART,
    "t5": _T5,
}
"""Modules that feed a site, by model type and by pattern of the site's name, in the module that holds it."""


@dataclass(frozen=True)
class DropoutSite:
    """A place where a model's body reads a dropout rate.

    Attributes:
        name: path of the `torch.nn.Dropout` or of the number, relative to ``model.base_model``.
        tensors: names of the parameters that feed the site, relative to the same.
    """

    name: str
    tensors: tuple[str, ...]


def dropout_sites(model: PreTrainedModel, batch: Mapping[str, Tensor]) -> list[DropoutSite]:
    """Return the dropout sites of a model's body in the order in which it reads them.

    They are found by running the model once, with another rate at every place that may be one: what it
    does not read is no site. The parameters that feed a site are known by name for BERT, RoBERTa, DistilBERT,
    GPT-2, BART and models built like it, and T5; elsewhere they are those of the module that holds it,
    without its layers.

    Args:
        model: left as it was.
        batch: a batch that the model accepts.

    Raises:
        UserError: if the body reads no dropout rate.
    """
    places = _places(model.base_model)
    rates = {name: 0.4 * (number + 1) / len(places) for number, name in enumerate(places)}
    with (
        _running(model),
        _rates_set(model.base_model, rates),
        layers_kept(model),
        _Reads() as read,
    ):
        model(**{name: tensor.to(model.device) for name, tensor in batch.items()})
    name_of = {rate: name for name, rate in rates.items()}
    names = [name_of[rate] for rate in dict.fromkeys(read.rates) if rate in name_of]
    if not names:
        raise UserError(
            f"expected a model with dropout, got {model.config.model_type}, which reads no dropout rate"
        )
    return [DropoutSite(name, _feeding(model, name)) for name in names]


def get_rate(model: PreTrainedModel, name: str) -> float:
    """Return the rate at the site of that name."""
    return float(getattr(*_place(model.base_model, name)))


def set_rates_(model: PreTrainedModel, rates: Mapping[str, float]) -> None:
    """Set the rate of every named site.

    Raises:
        UserError: if the model's body has no such place.
    """
    _set(model.base_model, rates)


def sites_fed_by(model: PreTrainedModel, tensor: Tensor) -> list[str]:
    """Return the names of the places for a rate that a parameter feeds."""
    body = model.base_model
    name = next(name for name, parameter in body.named_parameters() if parameter is tensor)
    return [place for place in _places(body) if name in _feeding(model, place)]


@contextmanager
def layers_kept(model: PreTrainedModel) -> Iterator[None]:
    """Have no layer left out at random (LayerDrop) for a while."""
    with _rates_set(model, {name: 0.0 for name in _numbers(model, "layerdrop")}):
        yield


@contextmanager
def _rates_set(body: nn.Module, rates: Mapping[str, float]) -> Iterator[None]:
    """Have other rates for a while; names are relative to ``body``."""
    before = {name: getattr(*_place(body, name)) for name in rates}
    _set(body, rates)
    try:
        yield
    finally:
        _set(body, before)


class _Reads(TorchFunctionMode):
    """Notes every rate that dropout or attention is called with."""

    def __init__(self) -> None:
        super().__init__()
        self.rates: list[float] = []

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if function is nn.functional.dropout:
            self.rates.append(kwargs["p"] if "p" in kwargs else args[1])
        elif function is nn.functional.scaled_dot_product_attention:
            self.rates.append(kwargs.get("dropout_p", 0.0))
        return function(*args, **kwargs)


@contextmanager
def _running(model: PreTrainedModel) -> Iterator[None]:
    """Be in training mode, without gradients and without a trace in the random state."""
    devices = [model.device] if model.device.type == "cuda" else []
    was_training = model.training
    with torch.no_grad(), torch.random.fork_rng(devices):
        model.train()
        try:
            yield
        finally:
            model.train(was_training)


def _places(body: nn.Module) -> list[str]:
    dropouts = [name for name, module in body.named_modules() if isinstance(module, nn.Dropout)]
    return dropouts + _numbers(body, "dropout")


def _numbers(root: nn.Module, kind: str) -> list[str]:
    """Return the paths of the numbers of which the name says their kind."""
    return [
        f"{name}.{attribute}".removeprefix(".")
        for name, module in root.named_modules()
        for attribute, value in vars(module).items()
        if kind in attribute and isinstance(value, int | float) and not isinstance(value, bool)
    ]


def _place(body: nn.Module, name: str) -> tuple[Any, str]:
    """Return the object and attribute that hold a rate."""
    holder, _, leaf = name.rpartition(".")
    try:
        module = body.get_submodule(holder)
    except AttributeError:
        module = None
    value = getattr(module, leaf, None)
    if isinstance(value, nn.Dropout):
        return value, "p"
    if not isinstance(value, int | float):
        raise UserError(f"expected a dropout site of this model, got {name!r}")
    return module, leaf


def _set(body: nn.Module, rates: Mapping[str, float]) -> None:
    for (place, attribute), rate in [(_place(body, name), rate) for name, rate in rates.items()]:
        setattr(place, attribute, rate)


def _feeding(model: PreTrainedModel, site: str) -> tuple[str, ...]:
    """Return the names of the parameters that feed a site; a shared one has its first name."""
    body = model.base_model
    name_of = {id(tensor): name for name, tensor in body.named_parameters() if tensor.requires_grad}
    holder, _, _ = site.rpartition(".")
    for pattern, sources in _FED_BY.get(model.config.model_type, {}).items():
        if re.fullmatch(pattern, site):
            tensors = [tensor for source in sources for tensor in _parameters(body, f"{holder}.{source}")]
            break
    else:
        tensors = _own_parameters(body, holder)
    return tuple(dict.fromkeys(name_of[id(tensor)] for tensor in tensors if id(tensor) in name_of))


def _parameters(body: nn.Module, path: str) -> list[Tensor]:
    try:
        return list(body.get_submodule(path.removeprefix(".")).parameters())
    except AttributeError:
        return []


def _own_parameters(body: nn.Module, holder: str) -> list[Tensor]:
    """Return the parameters of a module outside its lists of layers, or else of the module around it."""
    module = body.get_submodule(holder)
    own: list[Tensor] = list(module.parameters(recurse=False))
    for child in module.children():
        own += [] if isinstance(child, nn.ModuleList) else list(child.parameters())
    return own if own or not holder else _own_parameters(body, holder.rpartition(".")[0])
