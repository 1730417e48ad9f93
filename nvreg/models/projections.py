"""Projections of keys and values: as maps by head, and when they change."""

from __future__ import annotations

import contextlib
import functools
import itertools
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.pytorch_utils import Conv1D

from nvreg import compat
from nvreg.attention.fused import Projection
from nvreg.errors import NvregWarning, UserError

_NOTHING = contextlib.nullcontext()


def without_autocast(device: torch.device) -> contextlib.AbstractContextManager[Any]:
    """Keep the bias and the prior's logit in float32: autocast would round their products."""
    is_on = device.type != "meta" and torch.is_autocast_enabled(device.type)
    return torch.autocast(device.type, enabled=False) if is_on else _NOTHING


def as_autocast(*tensors: Tensor) -> tuple[Tensor, ...]:
    """Return tensors in the precision of autocast where it is on, as it does for sdpa attention."""
    kind = tensors[0].device.type
    if kind == "meta" or not torch.is_autocast_enabled(kind):
        return tensors
    dtype = torch.get_autocast_dtype(kind)
    return tuple(each if each.dtype == torch.float64 else each.to(dtype) for each in tensors)


# --- what a projection makes of its input ---------------------------------------------------------


def split_heads(projected: Tensor, head_dim: int) -> Tensor:
    """Reshape (batch, tokens, heads * e) to (batch, heads, tokens, e)."""
    return projected.view(*projected.shape[:-1], -1, head_dim).transpose(1, 2)


def projection(linear: Any, head_dim: int) -> Projection:
    """Return a linear module's weight and bias by head, in float32 at least."""
    weight, bias = affine_map(linear, linear.in_features)
    return Projection(weight.unflatten(0, (-1, head_dim)), bias.unflatten(0, (-1, head_dim)))


def is_linear(module: Any) -> bool:
    """Whether a projection is its weight and bias alone, in whatever form: without adapters (LoRA)."""
    kind = type(module)
    if kind is nn.Linear or kind is Conv1D:
        return True
    # Falcon's rounds in another order, and is nothing else.
    return kind.__name__ == "FalconLinear" and kind.__module__.startswith("transformers.")


def is_plain(module: Any) -> bool:
    """Whether a projection is its weight and bias alone, and they are numbers: not quantised either."""
    return is_linear(module) and has_numbers(module)


def has_numbers(module: nn.Module) -> bool:
    """Whether the weight of a module is not quantised."""
    return type(compat.parameter(module, "weight")) is nn.Parameter


def columns(linear: Any) -> Tensor:
    """Return the weight of a linear module as what every output is a column of, shape (in, out)."""
    return linear.weight if isinstance(linear, Conv1D) else linear.weight.T


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
        weight = columns(linear).T
        bias = weight.new_zeros(weight.shape[0]) if linear.bias is None else linear.bias
        return weight.detach().to(wide), bias.detach().to(wide)
    vectors = torch.eye(width, **_kind(linear))
    wide = torch.promote_types(vectors.dtype, torch.float32)
    bias = linear(torch.zeros_like(vectors[:1])).to(wide)
    return (linear(vectors).to(wide) - bias).T, bias[0]


def _kind(linear: Any) -> dict[str, Any]:
    """Return dtype and device of what a projection reads; one of integers alone reads float32."""
    tensors = (*linear.parameters(), *linear.buffers())
    dtype = next((tensor.dtype for tensor in tensors if tensor.is_floating_point()), torch.float32)
    return {"dtype": dtype, "device": device_of(linear)}


def device_of(linear: Any) -> torch.device:
    """Return the device of a projection's tensors."""
    return next(itertools.chain(linear.parameters(), linear.buffers())).device


# --- one projection for queries, keys and values --------------------------------------------------

_FEW_TOKENS = {torch.float32: 1, torch.bfloat16: 8, torch.float16: 8}
"""Up to how many tokens the whole weight is read as fast as its parts, by its dtype."""

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
    most = _FEW_TOKENS.get(hidden_states.dtype, 1)
    if compat.has_hooks(fused) or not is_plain(fused) or hidden_states.shape[:-1].numel() <= most:
        query, key, value = split(fused(torch.cat([hidden_states, means])))
        rows = hidden_states.shape[0]  # len() would fix the batch of an exported program
        return query[:rows], key[rows:], value[rows:]
    weights = split(columns(fused))
    biases = (None,) * 3 if fused.bias is None else [bias.flatten() for bias in split(fused.bias)]
    return tuple(
        F.linear(z, weight.flatten(1).T, bias).unflatten(-1, weight.shape[1:])
        for z, weight, bias in zip((hidden_states, means, means), weights, biases, strict=True)
    )


# --- when it changes ------------------------------------------------------------------------------


class Revision:
    """What a projection is made of, at some time: equal to a later one if nothing has changed since.

    It holds the tensors, so that none that comes later can be taken for one of them.
    """

    def __init__(self, tensors: list[Tensor], words: Any) -> None:
        """Take the tensors that a projection reads, and what else decides what it makes of its input."""
        self._tensors = tensors
        self._words = words, [compat.version(tensor) for tensor in tensors]

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Revision)
            and self._words == other._words
            and all(mine is its for mine, its in zip(self._tensors, other._tensors, strict=True))
        )

    __hash__ = None  # type: ignore[assignment]


def revision(linear: Any, width: int) -> Any:
    """Return what changes whenever a projection makes something else of its input.

    Tensors are known by their versions, LoRA by what peft says of its scaling, activity and merging too, and
    a projection of another kind by all else that it holds. Where that is not data, or hooks may change what
    it makes, it is asked what it makes of some vector, which on an accelerator waits for it.
    """
    if is_linear(linear):
        weight, bias = compat.parameter(linear, "weight"), compat.parameter(linear, "bias")
        if type(weight) is not nn.Parameter:  # quantised
            return Revision(compat.tensors_of(linear), None)
        return compat.version(weight), bias is not None and compat.version(bias)
    if compat.is_lora(linear) and is_linear(linear.base_layer) and not compat.has_hooks(linear):
        words = (
            linear.disable_adapters,
            tuple(linear.active_adapters),
            tuple(linear.merged_adapters),
            tuple(linear.scaling.items()),
        )
        return Revision(compat.tensors_of(linear), words)
    if (made_of := _made_of(linear)) is not None:
        return made_of
    if device_of(linear).type != "cpu":
        _warn_of_waiting(type(linear).__name__)
    with torch.no_grad(), without_autocast(device_of(linear)):
        return tuple(linear(torch.arange(1, 1 + width, **_kind(linear)).cos()[None])[0].tolist())


class _NotDataError(Exception):
    """Something that a module holds cannot be compared with what it holds later."""


def _made_of(module: nn.Module) -> Revision | None:
    """Return what a module is made of; None where that does not decide alone what it makes of its input."""
    tensors, words = compat.tensors_of(module), []
    for each in module.modules():
        if compat.has_hooks(each):
            return None
        try:
            words.append((type(each), _data(compat.held_by(each), tensors)))
        except _NotDataError:
            return None
    return Revision(tensors, words)


def _data(value: Any, tensors: list[Tensor]) -> Any:
    """Return a value as a copy that compares, and append the tensors in it to a list."""
    if value is None or isinstance(value, str | bytes | int | float | torch.dtype | torch.device):
        return value
    if isinstance(value, Tensor):
        tensors.append(value)
        return Tensor
    if isinstance(value, dict):
        return [(name, _data(each, tensors)) for name, each in value.items()]
    if isinstance(value, list | tuple):
        return [_data(each, tensors) for each in value]
    raise _NotDataError


@functools.cache
def _warn_of_waiting(kind: str) -> None:
    warnings.warn(
        f"expected projections that their data tell all of, got {kind}: at every forward it is asked "
        "whether it has changed, for which the GPU is waited for; merge its adapters, or take its hooks off",
        category=NvregWarning,
        stacklevel=2,
    )
