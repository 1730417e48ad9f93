"""NV attention in head space (docs/method.md, section 9): what is run.

It takes the queries, keys and values that a model's attention function is given, those from a cache
included. A setting scales queries, adds one bias a key, and maps queries to what the prior adds afterwards.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from nvreg.attention.fused import QueryMap, mix_blockwise
from nvreg.attention.kernel import Attended, attention_with_lse
from nvreg.attention.moments import HeadMoments
from nvreg.attention.settings import SiteSettings


class HeadTokens(NamedTuple):
    """How a setting changes token components; all tensors are in float32 at least.

    Attributes:
        tau_mu: how much of a token's own mean is kept.
        key_mean: k_0, shape (key heads, 1, e).
        query_scale: ``v_u / b1``, shape (heads, 1, e).
        shared: ``(1 - tau_mu) k_0 / b1``, whose product with the query is in the logits of all tokens, shape
            (heads, e, 1), or None where tau_mu is 1.
        root: the root of ``a = (c - tau_mu^2 / b1) / 2``, shape (key heads, 1, e).
        shift: ``l / (2 sqrt(a))``, where ``l = -tau_mu (1 - tau_mu) k_0 / b1``, shape (key heads, 1, e), or
            None where tau_mu is 1.
        constant: ``-sum((1 - tau_mu)^2 k_0^2 / b1 / 2 + l^2 / (4 a))``, shape (key heads, 1, 1), likewise.
        regression: keys to ``G1 (k - k_0)``, by key head, or None at tau_sigma = 0.
    """

    tau_mu: float
    key_mean: Tensor
    query_scale: Tensor
    shared: Tensor | None
    root: Tensor
    shift: Tensor | None
    constant: Tensor | None
    regression: QueryMap | None

    def bias(self, key: Tensor) -> Tensor:
        """Return ``beta_i`` of keys (batch, key heads, keys, e), shape (batch, key heads, 1, keys).

        It is a squared norm, which costs a third of the product of squares and a vector.
        """
        moved = key * self.root
        if self.shift is not None:
            moved = moved + self.shift
        bias = torch.linalg.vector_norm(moved, dim=-1).square().unsqueeze(-2)
        return bias if self.constant is None else bias + self.constant


class PreparedHeads(NamedTuple):
    """All that one setting at one site needs; None where there is nothing to do.

    Attributes:
        tokens: how token components differ from the pretrained keys and values.
        maps: queries to what is named in ``widths``, one behind the other.
        widths: the widths of ``(1 - tau_mu) v_0 + G1 (q - k_0)``, which tokens add, of
            ``v_0 + G0 (q - k_0)``, which the prior adds, and of its logit ``l_m0``; 0 for what is not there.
        log_mass: what else is in the prior's logit, shape (heads, 1, 1), or None at tau_alpha = inf. The last
            number that ``maps`` makes of a query has it already.
        token_share: ``tau_mu`` times the mean over key coordinates of ``v_u / b1``, for the discarded share.
    """

    tokens: HeadTokens | None = None
    maps: QueryMap | None = None
    widths: tuple[int, int, int] = (0, 0, 0)
    log_mass: Tensor | None = None
    token_share: float = 1.0


def prepare_heads(
    moments: HeadMoments,
    settings: SiteSettings,
    scale: float,
    *,
    groups: int = 1,
    dtype: torch.dtype = torch.float32,
    device: torch.device | None = None,
    interpolates: bool = True,
) -> PreparedHeads:
    """Precompute a setting, in float64, cast last.

    Args:
        moments: the site's prior.
        settings: the site's parameters.
        scale: c, by which the model multiplies ``q . k``.
        groups: query heads per key head.
        dtype: the dtype of the model's activations; what is kept has float32 at least.
        device: the device of the model's activations.
        interpolates: False leaves out G0, G1 and the ``log b`` terms: an ablation of the method.
    """
    tau_alpha, tau_sigma, tau_mu = settings
    k_0, v_0 = moments.key_mean.unsqueeze(1), moments.value_mean.unsqueeze(1)
    variance, covariance = moments.key_variance.unsqueeze(1), moments.covariance.transpose(-1, -2)
    query_variance = 1 / scale
    b1 = tau_sigma**2 * variance + query_variance
    b0 = variance + query_variance

    def cast(tensor: Tensor) -> Tensor:
        return tensor.to(device, torch.promote_types(dtype, torch.float32))

    def by_query_head(tensor: Tensor) -> Tensor:
        return cast(tensor).repeat_interleave(groups, 0)

    widens, mixes = tau_sigma > 0 and interpolates, tau_mu < 1
    gain1 = (tau_sigma**2 * covariance / b1.mT) if widens else torch.zeros_like(covariance)
    tokens = None
    if settings.changes_tokens:
        root = ((scale - tau_mu**2 / b1) / 2).clamp(min=0).sqrt()
        linear, fixed = -tau_mu * (1 - tau_mu) * k_0 / b1, (1 - tau_mu) ** 2 / 2 * k_0.square() / b1
        tokens = HeadTokens(
            tau_mu=tau_mu,
            key_mean=cast(k_0),
            query_scale=by_query_head(query_variance / b1),
            shared=by_query_head((1 - tau_mu) * (k_0 / b1).mT) if mixes else None,
            root=cast(root),
            shift=cast(linear / (2 * root)) if mixes else None,
            constant=cast(-(fixed + (linear / (2 * root)).square()).sum(-1, keepdim=True)) if mixes else None,
            regression=QueryMap(cast(gain1), cast(-k_0 @ gain1)) if widens else None,
        )
    width, maps, log_mass = v_0.shape[-1], [], None
    if adds := widens or mixes:
        maps.append(QueryMap(gain1, (1 - tau_mu) * v_0 - k_0 @ gain1))
    if settings.has_prior:
        gain0 = covariance / b0.mT if interpolates else torch.zeros_like(covariance)
        log_spread = b0.log() - b1.log() if interpolates else 0.0
        cost = (k_0.square() / b0 + log_spread).sum(-1, keepdim=True) / 2
        masses = (moments.log_alpha_mean - tau_alpha * moments.log_alpha_std).view(-1, 1, 1) - cost
        maps += [QueryMap(gain0, v_0 - k_0 @ gain0), QueryMap((k_0 / b0).mT, masses)]
        log_mass = by_query_head(masses)
    return PreparedHeads(
        tokens,
        QueryMap.laid_out(*(by_query_head(torch.cat(part, dim=-1)) for part in zip(*maps, strict=True)))
        if maps
        else None,
        widths=(width * adds, width * settings.has_prior, int(settings.has_prior)),
        log_mass=log_mass,
        token_share=tau_mu * float((query_variance / b1).mean()),
    )


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
    solve: Callable[[Tensor], float] | None = None,
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
    if parameters.maps is not None or mass is not None:
        mix = partial(_mix, parameters=parameters, softcap=softcap, solve=solve)
        output, prior_weight = mix_blockwise(mix, output, lse, query, mass, needs_all=solve is not None)
    weights = attended.weights
    if weights is not None:
        rest = torch.ones_like(lse) if mass is None else mass
        first = torch.zeros_like(lse) if prior_weight is None else prior_weight
        weights = weights * (rest * (1 - first)).unsqueeze(-1)
        weights = torch.cat([first.unsqueeze(-1), weights], dim=-1).to(query.dtype)
    return output.to(query.dtype), weights, prior_weight


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
    """Attend to token components: the mean of ``tau_mu (v_i - G1 (k_i - k_0))``, and the log-sum-exp.

    Many queries attend to values less their regression on the keys. For one that would be more work than
    attention: it attends to values and keys, and the mean of the keys is regressed.
    """
    batch, width = query.shape[0], query.shape[-1]
    key_heads, wide = key.shape[1], tokens.key_mean.dtype
    bias, columns, regression = tokens.bias(key), None, tokens.regression
    if regression is not None:
        if query.shape[2] == 1:
            columns = key
        else:
            value = (value - regression(key)).to(value.dtype)
    asked = query * tokens.query_scale
    if tokens.tau_mu < 1:
        if softcap is None:
            asked = asked * tokens.tau_mu
        else:  # what all tokens share stands under the cap
            key = tokens.key_mean.lerp(key.to(wide), tokens.tau_mu)
    attended = attention_with_lse(
        asked.to(query.dtype), key, value, scale, columns=columns, bias=bias, softcap=softcap, **options
    )
    output, lse = attended.output, attended.lse
    if regression is not None and attended.columns is not None:
        mean_keys = attended.columns.reshape(batch, key_heads, -1, width)
        output = output - regression(mean_keys).reshape(output.shape)
    if tokens.tau_mu < 1:
        output = output * tokens.tau_mu
    if tokens.shared is not None and softcap is None:
        lse = lse + (query.to(wide) @ tokens.shared).squeeze(-1)
    return attended._replace(output=output, lse=lse)


def _mix(
    output: Tensor,
    lse: Tensor,
    query: Tensor,
    mass: Tensor | None,
    parameters: PreparedHeads,
    softcap: float | None,
    solve: Callable[[Tensor], float] | None,
) -> tuple[Tensor, Tensor | None]:
    """Add what tokens share, whose mass beside a sink is given, and the prior; return its weights too."""
    parts = None if parameters.maps is None else parameters.maps(query).split(parameters.widths, dim=-1)
    if parts is not None and parameters.widths[0]:
        output = output + parts[0]
    if mass is not None:
        output = output * mass.unsqueeze(-1)
    if parts is None or parameters.log_mass is None:
        return output, None
    _, prior_output, logit = parts
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
