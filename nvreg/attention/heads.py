"""NV attention in head space (docs/method.md, section 9): what is run.

It takes the queries, keys and values that a model's attention function is given, those from a cache
included. A setting scales queries, adds one bias a key, and maps queries to what the prior adds afterwards.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from nvreg.attention.decoding import attend_one
from nvreg.attention.fused import mix_blockwise
from nvreg.attention.kernel import attention_with_lse
from nvreg.attention.plain import Attended, widened
from nvreg.attention.prepared_heads import HeadTokens, PreparedHeads


def attend_heads(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    parameters: PreparedHeads,
    scale: float,
    *,
    mask: Tensor | None = None,
    position_bias: Tensor | None = None,
    is_causal: bool = False,
    softcap: float | None = None,
    sink: Tensor | None = None,
    need_weights: bool = False,
    solve: Callable[[Tensor], Tensor] | None = None,
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Run NV attention on what a model's attention function is given (docs/method.md, section 9).

    Args:
        query: not scaled, shape (batch, heads, queries, e).
        key: shape (batch, key heads, keys, e); each key head serves consecutive query heads.
        value: shape (batch, key heads, keys, f).
        parameters: from `prepare_heads`.
        scale: c.
        mask: bool (True is seen) or additive, broadcastable to (batch, heads, queries, keys).
        position_bias: added to the logits of tokens, in the shape of an additive mask.
        is_causal: query m sees keys 0..m only, of which there are as many; not together with a mask.
        softcap: t, where the model caps its products to ``t tanh(x / t)``.
        sink: logits of the model's own sink, shape (heads,).
        need_weights: return the weights too.
        solve: takes ``g_m = l_m0 - L_m``, shape (batch, heads, queries), to the shift t of the tokens' log
            pseudo-counts, where the prior's weight is to be solved for (section 3).

    Returns:
        Head outputs, shape (batch, heads, queries, f); weights with the prior in column 0, shape
        (batch, heads, queries, 1 + keys), or None: rows sum to 1, or to what a sink leaves of it; the prior's
        weights ``A_m0``, shape (batch, heads, queries), or None at tau_alpha = inf.
    """
    if position_bias is not None:
        mask = _with_position_bias(mask, position_bias)
    dtype = query.dtype
    query, key, value, mask = widened(query, key, value, mask)
    if query.shape[2] == 1 and softcap is None and sink is None and solve is None and not need_weights:
        output, prior_weight = attend_one(query, key, value, parameters, scale, mask)
        return output.to(dtype), None, prior_weight
    options: dict[str, Any] = {
        "mask": mask,
        "is_causal": is_causal,
        "softcap": softcap,
        "need_weights": need_weights,
    }
    if parameters.tokens is None:
        attended = attention_with_lse(query, key, value, scale, **options)
    else:
        attended = _attend_changed(query, key, value, parameters.tokens, scale, **options)
    output, lse, mass = attended.output, attended.lse, None
    if sink is not None:
        of_tokens = lse
        lse = torch.logaddexp(lse, sink.to(lse.dtype).view(-1, 1))
        mass = torch.exp(of_tokens - lse)
    prior_weight = None
    if parameters.added is not None or parameters.prior is not None or mass is not None:
        mix = partial(_mix, parameters=parameters, softcap=softcap, solve=solve)
        output, prior_weight = mix_blockwise(
            mix, output, lse, query, attended.columns, mass, needs_all=solve is not None
        )
    weights = attended.weights
    if weights is not None:
        rest = torch.ones_like(lse) if mass is None else mass
        first = torch.zeros_like(lse) if prior_weight is None else prior_weight
        weights = weights * (rest * (1 - first)).unsqueeze(-1)
        weights = torch.cat([first.unsqueeze(-1), weights], dim=-1).to(dtype)
    return output.to(dtype), weights, prior_weight


def _attend_changed(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    tokens: HeadTokens,
    scale: float,
    *,
    softcap: float | None,
    **options: Any,
) -> Attended:
    """Attend to token components: the mean of ``v_i - G1 (k_i - k_0)``, and the log-sum-exp.

    Many queries attend to values less their regression on the keys. For one that would be more work than
    attention: it attends to values and, as columns, to keys.
    """
    wide = tokens.key_mean.dtype
    bias, columns = tokens.bias(key), None
    if tokens.regression is not None:
        if query.shape[2] == 1:
            columns = key
        else:
            value = (value - tokens.regression(key)).to(value.dtype)
    asked = query * tokens.query_scale
    if tokens.tau_mu < 1:
        if softcap is None:
            asked = asked * tokens.tau_mu
        else:  # what all tokens share stands under the cap
            key = tokens.key_mean.lerp(key.to(wide), tokens.tau_mu)
            if key.device.type != "cpu":  # whose kernels take queries and keys of one dtype
                key = key.to(query.dtype)
    attended = attention_with_lse(
        asked.to(query.dtype), key, value, scale, columns=columns, bias=bias, softcap=softcap, **options
    )
    if tokens.shared is None or softcap is not None:
        return attended
    return attended._replace(lse=attended.lse + (query.to(wide) @ tokens.shared).squeeze(-1))


def _mix(
    output: Tensor,
    lse: Tensor,
    query: Tensor,
    mean_key: Tensor | None,
    mass: Tensor | None,
    parameters: PreparedHeads,
    softcap: float | None,
    solve: Callable[[Tensor], Tensor] | None,
) -> tuple[Tensor, Tensor | None]:
    """Add what tokens share, whose mass beside a sink is given, and the prior; return its weights too."""
    tokens, width = parameters.tokens, output.shape[-1]
    moved = seen = None
    if mean_key is None and parameters.joint is not None:
        moved, seen = parameters.joint(query).split_with_sizes([width, width + 1], dim=-1)
    else:
        if parameters.prior is not None:
            seen = parameters.prior(query)
        if mean_key is not None and tokens is not None and tokens.residual is not None:
            moved = tokens.residual(torch.sub(query, mean_key, alpha=tokens.tau_mu))
        elif parameters.added is not None:
            moved = parameters.added(query)
    if moved is not None and tokens is not None:
        output = torch.add(moved, output, alpha=tokens.tau_mu)
    if mass is not None:
        output = output * mass.unsqueeze(-1)
    if seen is None or parameters.log_mass is None:
        return output, None
    prior_output, logit = seen.split_with_sizes([width, 1], dim=-1)
    if softcap is not None:
        product = logit - parameters.log_mass
        logit = softcap * torch.tanh(product / softcap) + parameters.log_mass
    odds = logit - lse.unsqueeze(-1)
    weight = torch.sigmoid(odds if solve is None else odds - solve(odds.squeeze(-1)))
    return output.to(weight.dtype).lerp_(prior_output, weight), weight.squeeze(-1)


def _with_position_bias(mask: Tensor | None, position_bias: Tensor) -> Tensor:
    """Return both as one additive mask."""
    if mask is None:
        return position_bias
    if mask.dtype == torch.bool:
        return torch.where(mask, position_bias, torch.finfo(position_bias.dtype).min)
    return mask + position_bias
