"""Key/value caches that carry the bias of each key (docs/method.md, section 4).

The bias rides as extra channels of the cached key, bit for bit, so that whatever a cache does to a
key (grow, crop, reorder for beams, repeat, move) happens to its bias too. The prior is never cached.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable

import torch
from torch import Tensor
from transformers import Cache, EncoderDecoderCache, PreTrainedModel

Components = tuple[Tensor, Tensor, Tensor | None]
"""Keys and values, shape (batch, key heads, keys, e), and beta_i, shape (batch, 1, 1, keys), or None."""


def cached(
    cache: Cache | None, layer: int, project: Callable[[], Components], *, is_cross: bool = False
) -> Components:
    """Return the token components of all keys seen so far, with those of ``project`` added to the cache.

    Args:
        cache: what Transformers passes as ``past_key_values``.
        layer: index of the layer in the cache.
        project: computes the components of the new tokens; not called for cross-attention that is cached.
        is_cross: whether the keys are those of an encoder, computed once.
    """
    if cache is None:
        return project()
    if isinstance(cache, EncoderDecoderCache):
        if is_cross and cache.is_updated.get(layer):
            stored = cache.cross_attention_cache.layers[layer]
            return _detach_bias(stored.keys, stored.values, stored.values.shape[-1])
        if is_cross:
            cache.is_updated[layer] = True
        cache = cache.cross_attention_cache if is_cross else cache.self_attention_cache
    key, value, bias = project()
    head_dim = key.shape[-1]
    key, value = cache.update(_attach_bias(key, bias), value, layer)
    return _detach_bias(key, value, head_dim)


def without_cache(model: PreTrainedModel) -> dict[str, bool]:
    """Return the option with which a model's forward fills no cache: nothing where it has none to fill."""
    return {"use_cache": False} if "use_cache" in inspect.signature(model.forward).parameters else {}


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
