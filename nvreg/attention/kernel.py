"""Plain attention that also returns its log-sum-exp, from the fastest kernel there is."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from nvreg.compat import flash_attention

HALF = (torch.bfloat16, torch.float16)
"""Precisions in which one query takes the flash kernel several times as long as in float32."""
_QUERIES = 64
"""How many queries are attended to at once where attention is computed plainly."""
_ENTRIES = {"cpu": 2**19, "cuda": 2**27}
"""How many entries of a map of queries and keys are computed at once: on a CPU, as stay in a core's cache."""


class Attended(NamedTuple):
    """What plain attention makes of its values.

    Attributes:
        output: shape (batch, heads, queries, f), in the dtype of the queries or float32.
        lse: log-sum-exp of the logits, shape (batch, heads, queries), in float32 at least: about the lowest
            number of the mask's dtype where a query sees no key.
        columns: means of the columns, shape (batch, heads, queries, r), or None.
        weights: shape (batch, heads, queries, keys), or None.
    """

    output: Tensor
    lse: Tensor
    columns: Tensor | None
    weights: Tensor | None


def attention_with_lse(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    scale: float,
    *,
    columns: Tensor | None = None,
    bias: Tensor | None = None,
    mask: Tensor | None = None,
    is_causal: bool = False,
    softcap: float | None = None,
    need_weights: bool = False,
) -> Attended:
    """Run softmax attention.

    The flash kernel serves where nothing is differentiated, as its gradient leaves the log-sum-exp out, and
    there are values alone and no cap; one query in half precision in float32. Everything else is computed
    plainly, in blocks.

    Args:
        query: shape (batch, heads, queries, e).
        key: shape (batch, key heads, keys, e); each key head serves consecutive query heads.
        value: shape (batch, key heads, keys, f).
        scale: multiplies ``q . k``.
        columns: more values, shape (batch, 1 or key heads, keys, r).
        bias: added to the logits, shape (batch, 1 or key heads, 1, keys), in float32 at least.
        mask: bool (True is seen) or additive, broadcastable to (batch, heads, queries, keys).
        is_causal: query m sees keys 0..m only, of which there are as many; not together with a mask.
        softcap: t, where the products are capped to ``t tanh(scale q . k / t)`` before anything is added.
        need_weights: return the weights too.
    """
    differentiated = torch.is_grad_enabled() and any(t.requires_grad for t in (query, key, value))
    is_plain = columns is not None or softcap is not None or need_weights or differentiated
    if query.device.type == "cpu" and not is_plain:
        if query.shape[2] == 1 and query.dtype in HALF:
            query, key, value = query.float(), key.float(), value.float()
            mask = mask if mask is None or mask.dtype == torch.bool else mask.float()
        return _flash(query, key, value, scale, bias, mask, is_causal)
    if need_weights or differentiated or query.shape[2] == 1 or torch.compiler.is_compiling():
        attended = _plain(query, key, value, scale, columns, bias, mask, is_causal, softcap)
        return attended if need_weights else attended._replace(weights=None)
    return _blockwise(query, key, value, scale, columns, bias, mask, is_causal, softcap)


def _flash(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    scale: float,
    bias: Tensor | None,
    mask: Tensor | None,
    is_causal: bool,
) -> Attended:
    width = value.shape[-1]
    if bias is not None and query.shape[2] > 1 and _makes_map_by_head(mask, bias):
        query, key, value = _with_bias_channels(query, key, value, scale, bias)
        bias = None
    if missing := key.shape[-1] - value.shape[-1]:  # the kernel has one width
        query, key = (F.pad(each, (0, max(0, -missing))) for each in (query, key))
        value = F.pad(value, (0, max(0, missing)))
    added = added_to_logits(query, mask, bias)
    output, lse = flash_attention(query, key, value, mask=added, is_causal=is_causal, scale=scale)
    return Attended(output if output.shape[-1] == width else output[..., :width], lse, None, None)


def _makes_map_by_head(mask: Tensor | None, bias: Tensor) -> bool:
    """Whether mask and bias together add something else to every query and key of every head.

    T5's relative positions do by themselves; any other mask does with a bias that heads do not share.
    """
    if mask is None or mask.ndim < 4 or mask.shape[-2] == 1 or mask.stride(-2) == 0:
        return False
    return bias.shape[1] > 1 or (mask.dtype != torch.bool and mask.shape[1] > 1)


def _with_bias_channels(
    query: Tensor, key: Tensor, value: Tensor, scale: float, bias: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Carry the bias as channels of the keys: one, or in half precision three, of 8 bits or more each."""
    rest = bias.transpose(-1, -2) / scale
    channels = []
    for _ in range(3 if key.dtype in HALF else 1):
        channels.append(rest.to(key.dtype))
        rest = rest - channels[-1]
    more = (0, len(channels))
    bias_of_keys = torch.cat(channels, dim=-1).expand(-1, key.shape[1], -1, -1)
    return F.pad(query, more, value=1.0), torch.cat([key, bias_of_keys], dim=-1), F.pad(value, more)


def added_to_logits(query: Tensor, mask: Tensor | None, bias: Tensor | None) -> Tensor | None:
    """Merge mask and bias; a finite floor keeps the log-sum-exp of a query without keys meaningful."""
    if bias is not None and 1 < bias.shape[1] < query.shape[1]:
        bias = bias.repeat_interleave(query.shape[1] // bias.shape[1], 1)
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


def _blockwise(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    scale: float,
    columns: Tensor | None,
    bias: Tensor | None,
    mask: Tensor | None,
    is_causal: bool,
    softcap: float | None,
) -> Attended:
    """Compute attention plainly, some rows and queries at a time."""
    batch, heads, queries, _ = query.shape
    keys = key.shape[2]
    entries = _ENTRIES.get(query.device.type, _ENTRIES["cuda"])
    rows = max(1, entries // (heads * min(queries, _QUERIES) * keys))
    if queries <= _QUERIES and batch <= rows:
        attended = _plain(query, key, value, scale, columns, bias, mask, is_causal, softcap)
        return attended._replace(weights=None)
    wide = torch.promote_types(query.dtype, torch.float32)
    key = key.to(wide)
    bias = None if bias is None else bias.expand(batch, -1, -1, -1)
    mask = None if mask is None else mask[(None,) * (4 - mask.ndim)].expand(batch, -1, queries, keys)
    output = query.new_empty(*query.shape[:3], value.shape[-1])
    lse = query.new_empty(query.shape[:3], dtype=wide)
    means = None if columns is None else columns.new_empty(*query.shape[:3], columns.shape[-1])
    for start in range(0, batch, rows):
        row = slice(start, start + rows)
        for first in range(0, queries, _QUERIES):
            some = slice(first, min(first + _QUERIES, queries))
            seen = slice(some.stop if is_causal else keys)
            block = _plain(
                query[row, :, some],
                key[row, :, seen],
                value[row, :, seen],
                scale,
                None if columns is None else columns[row, :, seen],
                None if bias is None else bias[row, :, :, seen],
                None if mask is None else mask[row, :, some, seen],
                is_causal,
                softcap,
            )
            for whole, part in ((output, block.output), (lse, block.lse), (means, block.columns)):
                if whole is not None and part is not None:
                    whole[row, :, some] = part
    return Attended(output, lse, means, None)


def _plain(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    scale: float,
    columns: Tensor | None,
    bias: Tensor | None,
    mask: Tensor | None,
    is_causal: bool,
    softcap: float | None,
) -> Attended:
    """Compute attention as it is defined; where it is causal, the last query sees the last key."""
    batch, heads, queries, width = query.shape
    key_heads, keys = key.shape[1:3]
    wide = torch.promote_types(query.dtype, torch.float32)  # float16 does not hold every product
    grouped, wide_key = (scale * query.to(wide)).reshape(batch, key_heads, -1, width), key.to(wide)
    logits = (grouped @ wide_key.transpose(-1, -2)).view(batch, heads, queries, keys)
    if softcap is not None:
        logits = softcap * torch.tanh(logits / softcap)
    if (added := added_to_logits(query, mask, bias)) is not None:
        logits += added
    if is_causal:
        future = torch.ones(queries, queries, dtype=torch.bool, device=logits.device).triu(1)
        logits[..., keys - queries :].masked_fill_(future, -torch.inf)
    weights = logits.softmax(-1)
    lse = logits.amax(-1) - weights.amax(-1).log()  # without another map of all queries and keys
    dtype = wide if queries == 1 else value.dtype  # one query is many small operations: float32 has fast ones
    weights = weights.to(dtype)
    output = (weights.view(batch, key_heads, -1, keys) @ value.to(dtype)).view(batch, heads, queries, -1)
    means = None
    if columns is not None:
        by_columns = weights.view(batch, columns.shape[1], -1, keys)
        means = by_columns @ (wide_key.to(dtype) if columns is key else columns.to(dtype))
        means = means.view(batch, heads, queries, -1)
    return Attended(output, lse, means, weights)
