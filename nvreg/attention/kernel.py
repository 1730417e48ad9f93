"""Plain attention that also returns its log-sum-exp, from the fastest kernel there is."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

_CPU_DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)


def attention_with_lse(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    scale: float,
    *,
    bias: Tensor | None = None,
    mask: Tensor | None = None,
    is_causal: bool = False,
    need_weights: bool = False,
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Return softmax attention, the log-sum-exp of its logits and, where asked for, its weights.

    The flash kernel serves where nothing is differentiated and no weights are wanted; its gradient
    leaves the log-sum-exp out, so everything else is computed plainly.

    Args:
        query: shape (batch, heads, queries, e).
        key: shape (batch, key heads, keys, e); each key head serves consecutive query heads.
        value: shape of key.
        scale: multiplies ``q . k``.
        bias: added to the logits, shape (batch, 1, 1, keys), in float32 at least.
        mask: bool (True is seen) or additive, broadcastable to (batch, heads, queries, keys).
        is_causal: query m sees keys 0..m only; not together with a mask.
        need_weights: return the weights too.

    Returns:
        Output in the shape of query; log-sum-exp, shape (batch, heads, queries), in float32 at least: about
        the lowest float where a query sees no key; weights, shape (batch, heads, queries, keys), or None.
    """
    if bias is not None and _is_shared(query, mask):
        query, key, value = _with_bias_channel(query, key, value, scale, bias)
        output, lse, weights = attention_with_lse(
            query, key, value, scale, mask=mask, is_causal=is_causal, need_weights=need_weights
        )
        return output[..., :-1], lse, weights
    added = _added_to_logits(query, mask, bias)
    differentiated = torch.is_grad_enabled() and any(t.requires_grad for t in (query, key, value))
    if query.device.type == "cpu" and query.dtype in _CPU_DTYPES and not (need_weights or differentiated):
        output, lse = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
            query, key, value, 0.0, is_causal, attn_mask=added, scale=scale
        )
        return output, lse, None
    return _plain(query, key, value, scale, added, is_causal)


def _is_shared(query: Tensor, mask: Tensor | None) -> bool:
    """Whether a map of queries and keys serves every row of the batch, until a bias is added to it."""
    if mask is None or mask.dtype == torch.bool or query.dtype not in _CPU_DTYPES[:2]:
        return False
    return mask.shape[-2] > 1 and (mask.ndim < 4 or mask.shape[0] < query.shape[0])


def _with_bias_channel(
    query: Tensor, key: Tensor, value: Tensor, scale: float, bias: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Carry the bias as one more channel of the keys."""
    channel = bias.transpose(-1, -2).to(key.dtype).expand(-1, key.shape[1], -1, -1)
    return F.pad(query, (0, 1), value=1 / scale), torch.cat([key, channel], dim=-1), F.pad(value, (0, 1))


def _added_to_logits(query: Tensor, mask: Tensor | None, bias: Tensor | None) -> Tensor | None:
    """Merge mask and bias; a finite floor keeps the log-sum-exp of a query without keys meaningful."""
    if mask is None:
        return bias
    if mask.stride(-2) == 0:
        mask = mask[..., :1, :]
    if mask.dtype != torch.bool:
        return mask if bias is None else mask + bias
    dtype = torch.promote_types(query.dtype, torch.float32)
    floor = torch.finfo(dtype).min / 2
    seen = torch.zeros((), dtype=dtype, device=mask.device) if bias is None else bias
    return torch.where(mask, seen, floor)


def _plain(
    query: Tensor, key: Tensor, value: Tensor, scale: float, added: Tensor | None, is_causal: bool
) -> tuple[Tensor, Tensor, Tensor]:
    groups = query.shape[1] // key.shape[1]
    key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
    wide = torch.promote_types(query.dtype, torch.float32)  # float16 does not hold every product
    logits = scale * query.to(wide) @ key.to(wide).transpose(-1, -2)
    if added is not None:
        logits = logits + added
    if is_causal:
        future = torch.ones(logits.shape[-2:], dtype=torch.bool, device=logits.device).triu(1)
        logits = logits.masked_fill(future, -torch.inf)
    weights = logits.softmax(-1)
    lse = logits.amax(-1) - weights.amax(-1).log()  # without another map of all queries and keys
    return weights.to(value.dtype) @ value, lse, weights.to(value.dtype)
