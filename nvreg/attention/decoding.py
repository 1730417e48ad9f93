"""One query in head space, as in decoding: the same numbers in few operations (docs/method.md, section 9).

A decoded token finds nothing in the caches of a core, neither numbers nor code, so that every operation, and
every line of Python, takes several times as long as in a loop.
"""

from __future__ import annotations

import torch
from torch import Tensor

from nvreg.attention.fused import QueryMap
from nvreg.attention.kernel import attention_with_lse
from nvreg.attention.plain import added_to_logits, product
from nvreg.attention.prepared_heads import HeadTokens, PreparedHeads


def attend_one(
    query: Tensor, key: Tensor, value: Tensor, parameters: PreparedHeads, scale: float, mask: Tensor | None
) -> tuple[Tensor, Tensor | None]:
    """Run NV attention for one query that nothing caps and that sees no sink.

    Args:
        query: not scaled, shape (batch, heads, 1, e).
        key: shape (batch, key heads, keys, e); each key head serves consecutive query heads.
        value: shape (batch, key heads, keys, f).
        parameters: from `nvreg.attention.prepared_heads.prepare_heads`.
        scale: c.
        mask: bool (True is seen) or additive, broadcastable to (batch, heads, 1, keys).

    Returns:
        Head outputs, shape (batch, heads, 1, f), in float32 at least, and the prior's weights ``A_m0``, shape
        (batch, heads, 1), or None at tau_alpha = inf.
    """
    tokens, asked = parameters.tokens, query.squeeze(2)
    if tokens is None:
        output, lse, *_ = attention_with_lse(query, key, value, scale, mask=mask)
        output = output.squeeze(2)
    else:
        output, lse = _attend_changed(query, asked, key, value, parameters, tokens, scale, mask)
    if parameters.prior is None:
        return output.unsqueeze(2), None
    prior_output, logit = _mapped(parameters.prior, asked).split_with_sizes([output.shape[-1], 1], dim=-1)
    weight = torch.sigmoid(logit - lse)
    return output.to(weight.dtype).lerp_(prior_output, weight).unsqueeze(2), weight


def _attend_changed(
    query: Tensor,
    asked: Tensor,
    key: Tensor,
    value: Tensor,
    parameters: PreparedHeads,
    tokens: HeadTokens,
    scale: float,
    mask: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """Return what token components give, shape (batch, heads, f), and the log-sum-exp (batch, heads, 1)."""
    batch, heads, width = asked.shape
    rows, keys = batch * key.shape[1], key.shape[2]
    bias = tokens.bias(key)
    if mask is not None and (added := added_to_logits(query, mask, bias)) is not None:
        bias = added
    asking, flat = (query * tokens.query_scale).view(rows, -1, width), key.reshape(rows, keys, width)
    added, alpha = bias.reshape(rows, -1, keys), scale * tokens.tau_mu
    if asking.dtype == flat.dtype:
        logits = torch.baddbmm(added, asking, flat.transpose(1, 2), alpha=alpha)
    else:
        logits = torch.add(added, product(asking.to(flat.dtype), flat.transpose(1, 2)), alpha=alpha)
    weights = logits.softmax(-1)
    lse = (logits.amax(-1) - weights.amax(-1).log()).view(batch, heads, 1)
    if tokens.shared is not None:
        lse = lse + (query.to(lse.dtype) @ tokens.shared).squeeze(2)
    weights = weights.to(flat.dtype)
    output = product(weights, value.reshape(rows, keys, -1)).view(batch, heads, -1)
    if tokens.residual is not None:
        mean_key = product(weights, flat).view(batch, heads, width)
        moved = _mapped(tokens.residual, torch.sub(asked, mean_key, alpha=tokens.tau_mu))
    elif parameters.added is not None:
        moved = _mapped(parameters.added, asked)
    else:
        return output, lse
    return (output if tokens.tau_mu == 1 else tokens.tau_mu * output) + moved, lse


def _mapped(queries: QueryMap, asked: Tensor) -> Tensor:
    """Map a query of each head, shape (batch, heads, e), to shape (batch, heads, n)."""
    return queries.of_rows(asked.transpose(0, 1).to(queries.weight.dtype)).transpose(0, 1)
