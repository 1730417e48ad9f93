"""What nvreg must know of an attention layout: one subclass of `Adapter` a layout."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedConfig
from transformers.pytorch_utils import Conv1D

from nvreg.attention.fused import Projection
from nvreg.errors import UserError


class Adapter(ABC):
    """How Transformers arranges one kind of attention module.

    Adapters hold no state: they read plain and converted modules alike. What a setting needs at run time
    is on the converted module as ``module.nv`` (`nvreg.models.inputs.InputState`). Modules are typed Any:
    their attributes are the layout's.

    Attributes:
        attention_classes: model type (as in ``config.model_type``) to the name of its attention class, a
            regular expression where it has several.
        key_value_modules: names of the attention module's children that project keys and values.
        output_projection: path of the module that mixes the heads, from the attention module; after "..",
            from its parent.
        refused_options: option of a config to the reason why a model that sets it cannot be converted.
    """

    attention_classes: ClassVar[Mapping[str, str]]
    key_value_modules: ClassVar[tuple[str, ...]]
    output_projection: ClassVar[str]
    refused_options: ClassVar[Mapping[str, str]] = {}

    def refusal(self, config: PreTrainedConfig) -> str | None:
        """Return why a model of this layout cannot be converted, or None."""
        for option, reason in self.refused_options.items():
            value = getattr(config, option, None)
            if value is not None and value is not False:  # 0.0 is a number to clip to
                return f"{reason} ({option})"
        return None

    @abstractmethod
    def role(self, module: Any, name: str) -> str:
        """Return ``encoder``, ``cross`` or ``decoder`` for the module called ``name`` in the base model."""

    @abstractmethod
    def scale(self, module: Any) -> float:
        """Return c, by which the model multiplies ``(W_q x + b_q) . (W_k z + b_k)``."""

    @abstractmethod
    def width(self, module: Any) -> int:
        """Return d, the number of coordinates that keys and values are projected from."""

    @abstractmethod
    def projections(self, module: Any) -> tuple[Projection, Projection]:
        """Return the key and the value projection by head, in float32 at least."""

    @abstractmethod
    def key_input(self, hidden_states: Tensor, **kwargs: Any) -> Tensor:
        """Return z, shape (batch, keys, d), from the arguments of the module's forward."""

    @abstractmethod
    def forward(self, module: Any, hidden_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Any, ...]:
        """Do what the module's own forward does, with NV attention: same arguments, same results.

        ``is_causal`` is always among them: whether sdpa attention hides later keys where there is no mask.
        """


def is_eager(config: PreTrainedConfig) -> bool:
    """Whether a model runs eager attention, the one that returns attention maps.

    Raises:
        UserError: if it runs one whose masks are not those of sdpa or eager attention.
    """
    implementation = config._attn_implementation
    if implementation not in ("sdpa", "eager"):
        raise UserError(
            f"expected attn_implementation 'sdpa' or 'eager', got {implementation!r}; "
            "load the model with attn_implementation='sdpa', or call model.set_attn_implementation('sdpa')"
        )
    return implementation == "eager"


def split_heads(projected: Tensor, head_dim: int) -> Tensor:
    """Reshape (batch, tokens, heads * e) to (batch, heads, tokens, e)."""
    return projected.view(*projected.shape[:-1], -1, head_dim).transpose(1, 2)


def projection(linear: Any, heads: int) -> Projection:
    """Return a linear module's weight and bias by head, in float32 at least."""
    weight, bias = affine_map(linear, linear.in_features)
    return Projection(weight.unflatten(0, (heads, -1)), bias.unflatten(0, (heads, -1)))


def is_linear(module: Any) -> bool:
    """Whether a projection is its weight and bias alone, in whatever form: without adapters (LoRA)."""
    return type(module) in (nn.Linear, Conv1D)


def is_plain(module: Any) -> bool:
    """Whether a projection is its weight and bias alone, and they are numbers: not quantised either."""
    return is_linear(module) and type(module._parameters.get("weight")) is nn.Parameter


@torch.no_grad()
def affine_map(linear: Any, width: int) -> tuple[Tensor, Tensor]:
    """Return weight, shape (out, width), and bias, shape (out,), of a projection, in float32 at least.

    One that is not plain is asked what it makes of zero and of the unit vectors.

    Raises:
        UserError: if its weight is not in memory.
    """
    if is_plain(linear):
        if linear.weight.is_meta:
            raise UserError(
                "expected attention weights in memory, got some on the meta device, as accelerate "
                "offloads them; load the model with a device_map that keeps attention on devices"
            )
        wide = torch.promote_types(linear.weight.dtype, torch.float32)
        weight = linear.weight.T if isinstance(linear, Conv1D) else linear.weight
        bias = weight.new_zeros(weight.shape[0]) if linear.bias is None else linear.bias
        return weight.detach().to(wide), bias.detach().to(wide)
    vectors = torch.eye(width, **_kind(linear))
    wide = torch.promote_types(vectors.dtype, torch.float32)
    bias = linear(torch.zeros_like(vectors[:1])).to(wide)
    return (linear(vectors).to(wide) - bias).T, bias[0]


def revision(linear: Any, width: int) -> tuple[Any, ...]:
    """Return what changes whenever a projection makes something else of its input.

    One that is not plain is asked what it makes of some vector: low-rank adapters can be switched, rescaled
    or merged without a trace on their tensors.
    """
    if is_plain(linear):  # at every forward: a look into the dictionary costs less than the attribute
        weight, bias = linear._parameters["weight"], linear._parameters.get("bias")
        return _version(weight), bias is not None and _version(bias)
    with torch.no_grad():
        return tuple(linear(torch.arange(1, 1 + width, **_kind(linear)).cos()[None])[0].tolist())


def _kind(linear: Any) -> dict[str, Any]:
    """Return dtype and device of what a projection reads; one of integers alone reads float32."""
    tensors = (*linear.parameters(), *linear.buffers())
    dtype = next((tensor.dtype for tensor in tensors if tensor.is_floating_point()), torch.float32)
    return {"dtype": dtype, "device": tensors[0].device}


def _version(weight: Tensor) -> tuple[int, int]:
    return weight.data_ptr(), 0 if weight.is_inference() else weight._version


_FEW_TOKENS = 8

Split = Callable[[Tensor], tuple[Tensor, ...]]
"""Takes what a projection makes of a token, in the last dimension, to its parts, each as (..., heads, e)."""


def fused_projections(fused: Any, width: int, split: Split) -> tuple[Projection, Projection]:
    """Return by head the last two parts of a projection, keys and values, in float32 at least."""
    weight, bias = affine_map(fused, width)
    *_, key, value = (
        Projection(w.permute(1, 2, 0), b) for w, b in zip(split(weight.T), split(bias), strict=True)
    )
    return key, value


def project_fused(fused: Any, hidden_states: Tensor, means: Tensor, split: Split) -> tuple[Tensor, ...]:
    """Return queries of ``hidden_states``, keys and values of ``means``, shape (batch, tokens, heads, e).

    Where the two differ, a plain weight is split; anything else projects both whole, and so does a plain one
    that has hooks, or where tokens are so few that reading the weight is all that takes time.

    Args:
        fused: the projection of all three.
        hidden_states: shape (batch, tokens, d).
        means: the same shape.
        split: into the three.
    """
    if means is hidden_states:
        return split(fused(hidden_states))
    is_watched = fused._forward_hooks or fused._forward_pre_hooks
    if is_watched or not is_plain(fused) or hidden_states.shape[:-1].numel() <= _FEW_TOKENS:
        query, key, value = split(fused(torch.cat([hidden_states, means])))
        rows = hidden_states.shape[0]  # len() would fix the batch of an exported program
        return query[:rows], key[rows:], value[rows:]
    columns = fused.weight if isinstance(fused, Conv1D) else fused.weight.T
    weights = split(columns)
    biases = (None,) * 3 if fused.bias is None else [bias.flatten() for bias in split(fused.bias)]
    return tuple(
        F.linear(z, weight.flatten(1).T, bias).unflatten(-1, weight.shape[1:])
        for z, weight, bias in zip((hidden_states, means, means), weights, biases, strict=True)
    )
