"""Kernels of GPUs that return the log-sum-exp: three of one contract, and which of them serves what.

The flash kernel takes nothing beside a causal mask. The memory-efficient one adds what it is given, in the
dtype of the queries. flex_attention, compiled, adds a float32 bias a key, caps logits, and leaves out the
blocks that a causal mask hides. One query is computed plainly where anything is added: its map is small, and
each key is read once, for all query heads that it serves.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention.flex_attention import AuxRequest, BlockMask, flex_attention

from nvreg import compat
from nvreg.attention.plain import HALF, Attended, Backend, Inputs, with_bias_channels

_ALIGNED = 8
"""What widths and strides of the kernels' inputs are multiples of."""
_WIDEST = 256
"""The widest heads that the flash kernel and flex_attention take."""
_NARROWEST = 16
"""The narrowest heads that flex_attention takes."""
_BLOCK = 128
"""How many queries, and keys, a block of flex_attention's causal mask has."""
_WIDE_BLOCKS = {"BLOCK_M": 64, "BLOCK_N": 32, "num_stages": 2}
"""Blocks of flex_attention whose values fit in shared memory where these are wider than 128."""
_VARIANTS = 64
"""How often a function is compiled, for other shapes and masks, before it runs as it is: PyTorch says 8."""


def gpu_backend(inputs: Inputs) -> Backend | None:
    """Return the kernel that serves these inputs best, None where attention is to be computed plainly."""
    dtype, generation = inputs.query.dtype, compat.cuda_generation(inputs.query.device)
    has_dtype = dtype != torch.float64 and (dtype != torch.bfloat16 or generation >= 8)
    if not generation or not has_dtype or torch.compiler.is_exporting():
        return None
    columns = 0 if inputs.columns is None else inputs.columns.shape[-1]
    width = max(inputs.query.shape[-1], inputs.value.shape[-1] + columns)
    adds_a_bias = inputs.bias is not None or inputs.columns is not None or inputs.softcap is not None
    if dtype in HALF and generation >= 8 and width <= _WIDEST:
        if inputs.mask is None and not adds_a_bias and _has_flash():
            return attend_by_flash
        narrow = min(inputs.query.shape[-1], inputs.value.shape[-1])
        if adds_a_bias and inputs.query.shape[2] > 1 and narrow >= _NARROWEST and _can_compile():
            return attend_by_flex
    if inputs.query.shape[2] == 1 or inputs.softcap is not None:
        return None
    return attend_efficiently


@torch.compiler.assume_constant_result
def _can_compile() -> bool:
    return compat.has_triton()


@torch.compiler.assume_constant_result
def _has_flash() -> bool:
    return torch.backends.cuda.is_flash_attention_available()  # not in PyTorch for Windows


def compiled_on_gpu(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Have a function of tensors, or None, run as one kernel where code for the GPU can be compiled."""

    @functools.wraps(function)
    def run(first: Tensor, *others: Tensor | None) -> Tensor:
        if first.device.type != "cuda" or torch.compiler.is_compiling() or not _can_compile():
            return function(first, *others)
        return _compiled(function)(first, *others)

    return run


@functools.cache
def _compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    compiled: Any = torch.compile  # whose types do not name the limit
    return compiled(function, recompile_limit=_VARIANTS)


# --- the kernels ----------------------------------------------------------------------------------


def attend_by_flash(inputs: Inputs) -> Attended:
    """Run the flash kernel; each key head serves its query heads as it is."""
    query, key, value, width = *inputs[:3], inputs.value.shape[-1]
    widest = max(query.shape[-1], width)
    widest += -widest % _ALIGNED
    query, key, value = (_aligned(each, widest) for each in (query, key, value))
    output, lse = compat.flash_attention_on_gpu(
        query, key, value, is_causal=inputs.is_causal, scale=inputs.scale
    )
    return Attended(output[..., :width], lse)


def attend_efficiently(inputs: Inputs) -> Attended:
    """Run the memory-efficient kernel, whose values may be wider than its keys, and hold columns too.

    What is added has the dtype of the queries, so that in half precision a bias rides as channels of keys.
    """
    bias, dtype, groups = inputs.bias, inputs.query.dtype, inputs.groups
    width, columns = inputs.value.shape[-1], inputs.columns
    if bias is not None and dtype in HALF:
        wide = with_bias_channels(inputs, bias, multiple=_ALIGNED)
        inputs, bias = wide._replace(value=inputs.value), None
    added = _added(inputs, bias)
    query, key, value = inputs.query, inputs.key, _values(inputs)
    if groups > 1:
        key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
    output, lse = compat.efficient_attention(
        *(_aligned(each, each.shape[-1] + -each.shape[-1] % _ALIGNED) for each in (query, key, value)),
        bias=added,
        is_causal=inputs.is_causal,
        scale=inputs.scale,
    )
    lse = lse[..., : query.shape[2]]  # its rows are padded
    return _split(output, lse, width, columns)


def attend_by_flex(inputs: Inputs) -> Attended:
    """Run flex_attention, compiled, with bias and mask read where they are."""
    query, key, value = inputs.query, inputs.key, _values(inputs)
    flex: Any = flex_attention if torch.compiler.is_compiling() else _compiled(flex_attention)
    output, aux = flex(
        query,
        key,
        value,
        score_mod=_score(inputs),
        block_mask=_causal_blocks(query.shape[2], query.device) if inputs.is_causal else None,
        scale=inputs.scale,
        enable_gqa=inputs.groups > 1,
        kernel_options=_WIDE_BLOCKS if value.shape[-1] > 128 else None,
        return_aux=AuxRequest(lse=True),
    )
    return _split(output, aux.lse, inputs.value.shape[-1], inputs.columns)


# --- what they are given --------------------------------------------------------------------------


def _values(inputs: Inputs) -> Tensor:
    """Return values with the columns behind them."""
    value, columns = inputs.value, inputs.columns
    if columns is None:
        return value
    return torch.cat([value, columns.to(value.dtype).expand(-1, value.shape[1], -1, -1)], dim=-1)


def _split(output: Tensor, lse: Tensor, width: int, columns: Tensor | None) -> Attended:
    """Separate what a kernel made of values and of the columns behind them."""
    means = None if columns is None else output[..., width : width + columns.shape[-1]]
    return Attended(output[..., :width], lse, means)


def _aligned(tensor: Tensor, width: int) -> Tensor:
    """Return a tensor of this width, or as wide as it is, whose rows begin where a kernel can read them."""
    if tensor.shape[-1] < width:
        return F.pad(tensor, (0, width - tensor.shape[-1]))
    steps: list[Any] = list(tensor.stride()[:-1])
    if not torch.compiler.is_compiling():  # which knows strides alone
        steps.append(tensor.storage_offset())
    is_aligned = tensor.stride(-1) == 1 and all(step % _ALIGNED == 0 for step in steps)
    return tensor if is_aligned else tensor.contiguous()


def _added(inputs: Inputs, bias: Tensor | None) -> Tensor | None:
    """Merge mask and bias in the dtype of the queries, as a map whose repeated rows lie in memory once."""
    query, mask, dtype = inputs.query, inputs.mask, inputs.query.dtype
    if bias is not None and bias.shape[1] > 1:
        bias = bias.repeat_interleave(inputs.groups, 1)
    if mask is None:
        added = bias
    else:
        mask = _once(mask)
        if mask.dtype == torch.bool:
            seen = torch.zeros((), dtype=dtype, device=mask.device)
            mask = torch.where(mask, seen, torch.finfo(dtype).min / 2)
        added = mask if bias is None else mask + bias
    if added is None:
        return None
    keys = added.shape[-1]
    added = added.to(dtype).contiguous()  # T5's positions vary fastest by head, which padding would keep
    added = F.pad(added, (0, -keys % _ALIGNED))[..., :keys]
    return added.expand(*query.shape[:3], keys)


def _once(mask: Tensor) -> Tensor:
    """Return a mask of four dimensions, in which what is repeated has size 1."""
    mask = mask[(None,) * (4 - mask.ndim)]
    for dim in range(3):
        if mask.stride(dim) == 0:
            mask = mask.narrow(dim, 0, 1)
    return mask


# --- flex_attention -------------------------------------------------------------------------------


def _score(inputs: Inputs) -> Callable[..., Tensor]:
    """Return what becomes of a product of query and key, by row, head, and their positions."""
    groups, softcap, dtype = inputs.groups, inputs.softcap, torch.float32
    bias, mask = inputs.bias, inputs.mask
    bias_at = mask_at = None
    if bias is not None:
        bias_at = _reader(bias, groups if bias.shape[1] > 1 else 1)
    if mask is not None:
        mask_at = _reader(_once(mask), 1)
    is_bool, floor = mask is not None and mask.dtype == torch.bool, torch.finfo(dtype).min / 2

    def score(product: Tensor, row: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        if softcap is not None:
            product = softcap * torch.tanh(product / softcap)
        if bias_at is not None:
            product = product + bias_at(row, head, query, key)
        if mask_at is not None:
            seen = mask_at(row, head, query, key)
            product = torch.where(seen, product, floor) if is_bool else product + seen
        return product

    return score


def _reader(tensor: Tensor, groups: int) -> Callable[..., Tensor]:
    """Return what reads a tensor (batch, heads, queries, keys), whose dimensions of size 1 are repeated.

    Args:
        tensor: the tensor.
        groups: how many query heads share a head of it.
    """
    varies = [size > 1 for size in tensor.shape[:3]]
    tensor = tensor[tuple(slice(None) if each else 0 for each in varies)]

    def read(row: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        places = zip((row, head if groups == 1 else head // groups, query), varies, strict=True)
        return tensor[(*(place for place, each in places if each), key)]

    return read


def _is_past(_row: Tensor, _head: Tensor, query: Tensor, key: Tensor) -> Tensor:
    return query >= key


@functools.lru_cache(maxsize=64)
def _causal_blocks(length: int, device: torch.device) -> BlockMask:
    """Return which blocks of keys each block of queries sees: whole those before it, and part of its own.

    They are written down, not found from a map of all queries and keys.
    """
    numbers = torch.arange(-(-length // _BLOCK), dtype=torch.int32, device=device)
    blocks = numbers.repeat(len(numbers), 1)
    diagonal = (blocks + numbers[:, None]) % len(numbers)
    return BlockMask.from_kv_blocks(
        torch.ones_like(numbers)[None, None],
        diagonal[None, None],
        numbers[None, None],
        blocks[None, None],
        BLOCK_SIZE=_BLOCK,
        mask_mod=_is_past,
        seq_lengths=(length, length),
        compute_q_blocks=False,
    )
