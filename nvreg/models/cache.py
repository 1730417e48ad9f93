"""Key/value caches that carry the bias of each key (docs/method.md, section 4).

The bias rides as extra channels of the cached key, bit for bit, so that whatever a cache does to a
key (grow, crop, reorder for beams, repeat, move) happens to its bias too. The prior is never cached.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from transformers import Cache, EncoderDecoderCache, PreTrainedModel

from nvreg import compat
from nvreg.errors import UserError

Components = tuple[Tensor, Tensor, Tensor | None]
"""Keys and values, shape (batch, key heads, keys, e), and beta_i, shape (batch, 1, 1, keys), or None."""


CACHES = ("cache", "past_key_values", "layer_past")
"""What forwards call the cache that they are given: the first since Transformers 5.24, another before."""


def given_cache(kwargs: Mapping[str, Any]) -> Any:
    """Return the cache among the arguments of a forward, of a model or of a module; None: there is none."""
    for name in CACHES:
        if (cache := kwargs.get(name)) is not None:
            return cache
    return None


def cached(
    cache: Cache, layer: int, project: Callable[[], Components], *, is_cross: bool = False
) -> Components:
    """Return the token components of all keys seen so far, with those of ``project`` added to the cache.

    Args:
        cache: what Transformers passes, where it passes one.
        layer: index of the layer in the cache.
        project: computes the components of the new tokens; not called for cross-attention that is cached.
        is_cross: whether the keys are those of an encoder, computed once.

    Raises:
        UserError: if there is a bias to store and the cache rounds what it stores, or if of the keys that it
            holds and the new ones only one has a bias.
    """
    if isinstance(cache, EncoderDecoderCache):
        if is_cross and compat.is_cross_cached(cache, layer):
            stored: Any = cache.cross_attention_cache.layers[layer]
            return _detach_bias(stored.keys, stored.values, stored.values.shape[-1])
        if is_cross:
            compat.note_cross_cached_(cache, layer)
        cache = cache.cross_attention_cache if is_cross else cache.self_attention_cache
    key, value, bias = project()
    head_dim = key.shape[-1]
    key = _attach_bias(key, bias)
    if layer < len(cache.layers):
        _check(cache.layers[layer], key, has_bias=bias is not None)
    key, value = cache.update(key, value, layer)
    return _detach_bias(key, value, head_dim)


def without_cache(model: PreTrainedModel) -> dict[str, bool]:
    """Return the option with which a model's forward fills no cache: nothing where it has none to fill."""
    return {"use_cache": False} if "use_cache" in inspect.signature(model.forward).parameters else {}


def _check(stored: Any, key: Tensor, *, has_bias: bool) -> None:
    """Raise a UserError if one layer of a cache cannot take keys with the bias, or none, that they have."""
    if has_bias and compat.quantises(stored):
        raise UserError(
            "expected a cache that keeps keys bit for bit, which tau_sigma > 0 and tau_mu < 1 need, "
            f"got a {type(stored).__name__}; take another cache, or tau_sigma=0 and tau_mu=1"
        )
    held = stored.keys
    if held is not None and held.ndim == 4 and held.shape[-1] != key.shape[-1]:
        raise UserError(
            f"expected a cache filled under the present settings, with {key.shape[-1]} channels a key, "
            f"got one with {held.shape[-1]}; start from an empty cache, or, where a prefix is given "
            "(prefix tuning), set tau_sigma=0 and tau_mu=1"
        )


def _attach_bias(key: Tensor, bias: Tensor | None) -> Tensor:
    """Append the bits of a bias in float32 or float64 to every head's key: one or two channels."""
    if bias is None:
        return key
    channels = bias.view(bias.shape[0], 1, -1, 1).view(key.dtype)
    return torch.cat([key, channels.expand(-1, key.shape[1], -1, -1)], dim=-1)


def _detach_bias(key: Tensor, value: Tensor, head_dim: int) -> Components:
    """Undo `_attach_bias`: whatever makes a key wider than its head is its bias."""
    if key.shape[-1] == head_dim:
        return key, value, None
    wide = torch.promote_types(key.dtype, torch.float32)
    bias = key.narrow(1, 0, 1).narrow(3, head_dim, key.shape[-1] - head_dim)
    if head_dim % 2:  # two channels that hold one number, but do not begin where one may
        bias = bias.contiguous()
    return key.narrow(3, 0, head_dim), value, bias.view(wide).transpose(2, 3)
