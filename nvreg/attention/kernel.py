"""Plain attention that also returns its log-sum-exp, from the fastest kernel there is."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from nvreg.attention.gpu import gpu_backend
from nvreg.attention.plain import (
    Attended,
    Backend,
    Inputs,
    added_to_logits,
    attend_blockwise,
    attend_plainly,
    with_bias_channels,
)
from nvreg.compat import flash_attention


def attention_with_lse(
    query: Tensor, key: Tensor, value: Tensor, scale: float, *, need_weights: bool = False, **options: Any
) -> Attended:
    """Run softmax attention.

    Args:
        query: as in `Inputs`, like all others.
        key: likewise.
        value: likewise.
        scale: likewise.
        need_weights: return the weights too.
        options: likewise.
    """
    inputs = Inputs(query, key, value, scale, **options)
    attended = backend(inputs, need_weights=need_weights)(inputs)
    return attended if need_weights or attended.weights is None else Attended(*attended[:3])


def backend(inputs: Inputs, *, need_weights: bool = False) -> Backend:
    """Return the way of computing attention that serves these inputs best.

    Kernels serve where nothing is differentiated, as their gradient leaves the log-sum-exp out, and no
    weights are wanted: that of the CPU where there are values alone and no cap, those of a GPU as
    `gpu_backend` says. Everything else is computed plainly, in blocks.
    """
    query = inputs.query
    differentiated = torch.is_grad_enabled() and any(t.requires_grad for t in inputs[:3])
    if need_weights or differentiated:
        return attend_plainly
    if query.device.type == "cpu" and inputs.columns is None and inputs.softcap is None:
        return _flash_on_cpu
    if query.device.type == "cuda" and (fused := gpu_backend(inputs)) is not None:
        return fused
    one_block = query.shape[2] == 1 or torch.compiler.is_compiling()
    return attend_plainly if one_block else attend_blockwise


def _flash_on_cpu(inputs: Inputs) -> Attended:
    """Run the flash kernel of the CPU, which is slow at one query in half precision: `widened` sees to it."""
    query, key, value, mask, bias = inputs.query, inputs.key, inputs.value, inputs.mask, inputs.bias
    width = value.shape[-1]
    if bias is not None and query.shape[2] > 1 and _makes_map_by_head(mask, bias):
        query, key, value, *_ = with_bias_channels(inputs, bias)
        bias = None
    if missing := key.shape[-1] - value.shape[-1]:  # the kernel has one width
        query, key = (F.pad(each, (0, max(0, -missing))) for each in (query, key))
        value = F.pad(value, (0, max(0, missing)))
    added = added_to_logits(query, mask, bias)
    output, lse = flash_attention(
        query, key, value, mask=added, is_causal=inputs.is_causal, scale=inputs.scale
    )
    return Attended(output if output.shape[-1] == width else output[..., :width], lse)


def _makes_map_by_head(mask: Tensor | None, bias: Tensor) -> bool:
    """Whether mask and bias together add something else to every query and key of every head.

    T5's relative positions do by themselves; any other mask does with a bias that heads do not share.
    """
    if mask is None or mask.ndim < 4 or mask.shape[-2] == 1 or mask.stride(-2) == 0:
        return False
    return bias.shape[1] > 1 or (mask.dtype != torch.bool and mask.shape[1] > 1)
