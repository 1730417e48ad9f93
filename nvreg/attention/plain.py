"""Attention as it is defined, and what every way of computing it takes and returns."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

HALF = (torch.bfloat16, torch.float16)
"""Precisions that no logit, bias or log-sum-exp is kept in."""

_UNIT = 64.0
"""What queries hold where keys have a bias: what float16 holds of biases is so many times as large.

A power of two, so that nothing is rounded otherwise.
"""
_QUERIES = 64
"""How many queries a CPU attends to at once where attention is computed plainly."""
_MAP_ENTRIES = {"cpu": 2**19, "cuda": 2**27}
"""How many entries of a map of queries and keys are computed at once: on a CPU, as stay in a core's cache."""


class Inputs(NamedTuple):
    """What softmax attention is computed of.

    Attributes:
        query: shape (batch, heads, queries, e).
        key: shape (batch, key heads, keys, e); each key head serves consecutive query heads.
        value: shape (batch, key heads, keys, f).
        scale: multiplies ``q . k``.
        columns: more values, shape (batch, 1 or key heads, keys, r), or None.
        bias: added to the logits, shape (batch, 1 or key heads, 1, keys), in float32 at least, or None.
        mask: bool (True is seen) or additive, broadcastable to (batch, heads, queries, keys), or None.
        is_causal: query m sees keys 0..m only, of which there are as many; not together with a mask.
        softcap: t, where the products are capped to ``t tanh(scale q . k / t)`` before anything is added.
    """

    query: Tensor
    key: Tensor
    value: Tensor
    scale: float
    columns: Tensor | None = None
    bias: Tensor | None = None
    mask: Tensor | None = None
    is_causal: bool = False
    softcap: float | None = None

    @property
    def groups(self) -> int:
        """Query heads per key head."""
        return self.query.shape[1] // self.key.shape[1]


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
    columns: Tensor | None = None
    weights: Tensor | None = None


Backend = Callable[[Inputs], Attended]
"""A way of computing attention, for the inputs that it is chosen for."""


# --- what is added to the logits ------------------------------------------------------------------


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
    seen = torch.zeros((), dtype=dtype, device=mask.device) if bias is None else bias
    return torch.where(mask, seen, torch.finfo(seen.dtype).min / 2)


def with_bias_channels(inputs: Inputs, bias: Tensor, *, multiple: int = 1) -> Inputs:
    """Carry a bias as channels of the keys: one, or in half precision three, of 8 bits or more each.

    Args:
        inputs: their values are widened likewise, and have as many channels as their keys had.
        bias: as in `Inputs`.
        multiple: the channels of a key are to be so many, or twice as many, and so on.
    """
    query, key, value = inputs.query, inputs.key, inputs.value
    rest = bias.transpose(-1, -2) / (_UNIT * inputs.scale)
    channels = []
    for _ in range(3 if key.dtype in HALF else 1):
        channels.append(rest.to(key.dtype))
        rest = rest - channels[-1]
    bias_of_keys = torch.cat(channels, dim=-1)
    missing = -(key.shape[-1] + len(channels)) % multiple
    if missing:
        bias_of_keys = F.pad(bias_of_keys, (0, missing))
    more = (0, len(channels) + missing)
    bias_of_keys = bias_of_keys.expand(-1, key.shape[1], -1, -1)
    return inputs._replace(
        query=F.pad(query, more, value=_UNIT),
        key=torch.cat([key, bias_of_keys], dim=-1),
        value=F.pad(value, more),
    )


# --- attention as it is defined -------------------------------------------------------------------


def widened(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None
) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """Return inputs in float32 where that is faster: of one query in half precision on a CPU.

    It is many small operations, which a CPU has fast ones for in float32.
    """
    if query.shape[2] > 1 or query.dtype not in HALF or query.device.type != "cpu":
        return query, key, value, mask
    if mask is not None and mask.dtype != torch.bool:
        mask = mask.float()
    return query.float(), key.float(), value.float(), mask


def attend_blockwise(inputs: Inputs) -> Attended:
    """Compute attention plainly, some rows and queries at a time; weights are let go."""
    query, key, value, scale, columns, bias, mask, is_causal, softcap = inputs
    batch, heads, queries, _ = query.shape
    keys, is_cpu = key.shape[2], query.device.type == "cpu"
    entries = _MAP_ENTRIES.get(query.device.type, _MAP_ENTRIES["cuda"])
    at_once = _QUERIES if is_cpu else max(_QUERIES, entries // (heads * keys))
    rows = max(1, entries // (heads * min(queries, at_once) * keys))
    if queries <= at_once and batch <= rows:
        return attend_plainly(inputs)._replace(weights=None)
    wide = torch.promote_types(query.dtype, torch.float32)
    key = key.to(wide) if is_cpu else key
    bias = None if bias is None else bias.expand(batch, -1, -1, -1)
    mask = None if mask is None else mask[(None,) * (4 - mask.ndim)].expand(batch, -1, queries, keys)
    output = query.new_empty(*query.shape[:3], value.shape[-1])
    lse = query.new_empty(query.shape[:3], dtype=wide)
    means = None if columns is None else columns.new_empty(*query.shape[:3], columns.shape[-1])
    for start in range(0, batch, rows):
        row = slice(start, start + rows)
        for first in range(0, queries, at_once):
            some = slice(first, min(first + at_once, queries))
            seen = slice(some.stop if is_causal else keys)
            block = attend_plainly(
                Inputs(
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
            )
            for whole, part in ((output, block.output), (lse, block.lse), (means, block.columns)):
                if whole is not None and part is not None:
                    whole[row, :, some] = part
    return Attended(output, lse, means)


def attend_plainly(inputs: Inputs) -> Attended:
    """Compute attention as it is defined; where it is causal, the last query sees the last key."""
    query, key, value, scale, columns, bias, mask, is_causal, softcap = inputs
    batch, heads, queries, width = query.shape
    key_heads, keys = key.shape[1:3]
    is_cpu = query.device.type == "cpu"
    if queries == 1 and softcap is None and not (is_cpu and query.dtype in HALF):
        return attend_singly(inputs)
    wide = torch.promote_types(query.dtype, torch.float32)  # float16 does not hold every product
    wide_key = key
    if is_cpu or query.dtype == wide:
        grouped, wide_key = (scale * query.to(wide)).reshape(batch, key_heads, -1, width), key.to(wide)
        logits = grouped @ wide_key.transpose(-1, -2)
    else:
        grouped = query.reshape(batch * key_heads, -1, width)
        logits = product(grouped, key.flatten(0, 1).transpose(-1, -2)).mul_(scale)
    logits = logits.view(batch, heads, queries, keys)
    if softcap is not None:
        logits = softcap * torch.tanh(logits / softcap)
    if (added := added_to_logits(query, mask, bias)) is not None:
        logits += added
    if is_causal:
        future = torch.ones(queries, queries, dtype=torch.bool, device=logits.device).triu(1)
        logits[..., keys - queries :].masked_fill_(future, -torch.inf)
    weights = logits.softmax(-1)
    lse = logits.amax(-1) - weights.amax(-1).log()  # without another map of all queries and keys
    weights = weights.to(value.dtype)
    output = (weights.view(batch, key_heads, -1, keys) @ value).view(batch, heads, queries, -1)
    means = None
    if columns is not None:
        by_columns = weights.view(batch, columns.shape[1], -1, keys)
        means = by_columns @ (wide_key.to(value.dtype) if columns is key else columns.to(value.dtype))
        means = means.view(batch, heads, queries, -1)
    return Attended(output, lse, means, weights)


def attend_singly(inputs: Inputs) -> Attended:
    """Compute attention of one query that nothing caps, not in half precision on a CPU, in few operations.

    Why they are to be few, `nvreg.attention.decoding` says.
    """
    query, key, value, scale, columns, bias, mask, *_ = inputs
    batch, heads, _, width = query.shape
    key_heads, keys = key.shape[1:3]
    rows = batch * key_heads
    asked, keys_of_rows = query.reshape(rows, -1, width), key.reshape(rows, keys, width).transpose(1, 2)
    added = bias if mask is None else added_to_logits(query, mask, bias)
    if added is None:
        logits = product(asked, keys_of_rows).mul_(scale)
    else:
        if added.shape[0] < batch or added.shape[1] < key_heads:
            added = added.expand(batch, max(added.shape[1], key_heads), 1, keys)
        added = added.reshape(rows, -1, keys)
        if asked.dtype == added.dtype and asked.dtype not in HALF:
            logits = torch.baddbmm(added, asked, keys_of_rows, alpha=scale)
        else:
            logits = torch.add(added, product(asked, keys_of_rows), alpha=scale)
    weights = logits.softmax(-1)
    lse = (logits.amax(-1) - weights.amax(-1).log()).view(batch, heads, 1)
    weights = weights.to(value.dtype)
    output = product(weights, value.reshape(rows, keys, -1)).view(batch, heads, 1, -1)
    means = None
    if columns is not None:
        rows = batch * columns.shape[1]
        means = product(weights.view(rows, -1, keys), columns.reshape(rows, keys, -1))
        means = means.view(batch, heads, 1, -1)
    return Attended(output, lse, means, weights.view(batch, heads, 1, keys))


def product(left: Tensor, right: Tensor) -> Tensor:
    """Multiply batches of matrices in their own dtype, and return what is added up in float32 at least.

    Where a device has no product of half precision that returns float32, it is rounded in between.

    Args:
        left: shape (batch, m, n).
        right: shape (batch, n, p).
    """
    if left.dtype not in HALF:
        return torch.bmm(left, right)
    if left.device.type == "cuda":
        return torch.bmm(left, right, out_dtype=torch.float32)
    return torch.bmm(left, right).float()
