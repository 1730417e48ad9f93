"""What a setting needs in head space, made beforehand (docs/method.md, section 9)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from nvreg.attention.fused import QueryMap
from nvreg.attention.gpu import compiled_on_gpu
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
        residual: what a query adds that attends to values and keys, from ``q - tau_mu k`` with the mean k of
            the keys: ``(1 - tau_mu) (v_0 - G1 k_0) + G1 (q - tau_mu k)``, or None at tau_sigma = 0.
    """

    tau_mu: float
    key_mean: Tensor
    query_scale: Tensor
    shared: Tensor | None
    root: Tensor
    shift: Tensor | None
    constant: Tensor | None
    regression: QueryMap | None
    residual: QueryMap | None

    def bias(self, key: Tensor) -> Tensor:
        """Return ``beta_i`` of keys (batch, key heads, keys, e), shape (batch, key heads, 1, keys).

        It is a squared norm, which costs a third of the product of squares and a vector.
        """
        bias = _squared_norm(key, self.root, self.shift).unsqueeze(-2)
        return bias if self.constant is None else bias + self.constant


@compiled_on_gpu
def _squared_norm(key: Tensor, root: Tensor, shift: Tensor | None) -> Tensor:
    """Return the squared norms of scaled keys, in float32 at least; compiled, no key is widened in memory."""
    moved = key * root if shift is None else torch.addcmul(shift, key, root)
    return torch.linalg.vector_norm(moved, dim=-1).square()


class PreparedHeads(NamedTuple):
    """All that one setting at one site needs; None where there is nothing to do.

    Attributes:
        tokens: how token components differ from the pretrained keys and values.
        added: queries to ``(1 - tau_mu) v_0 + G1 (q - k_0)``, which tokens add.
        prior: queries to what the prior adds, ``v_0 + G0 (q - k_0)``, and behind it its logit ``l_m0``, or
            None at tau_alpha = inf.
        joint: the two maps side by side, where there are both.
        log_mass: what is in the prior's logit beside its product with the query, shape (heads, 1, 1), or
            None at tau_alpha = inf.
        token_share: ``tau_mu`` times the mean over key coordinates of ``v_u / b1``, for the discarded share.
    """

    tokens: HeadTokens | None = None
    added: QueryMap | None = None
    prior: QueryMap | None = None
    joint: QueryMap | None = None
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
        dtype: the dtype of the model's activations; what is kept has float32 at least, `QueryMap` excepted.
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
    weights, offsets, log_mass = [], [], None
    if adds := widens or mixes:
        weights.append(gain1)
        offsets.append((1 - tau_mu) * v_0 - k_0 @ gain1)
    if settings.has_prior:
        gain0 = covariance / b0.mT if interpolates else torch.zeros_like(covariance)
        log_spread = b0.log() - b1.log() if interpolates else 0.0
        cost = (k_0.square() / b0 + log_spread).sum(-1, keepdim=True) / 2
        masses = (moments.log_alpha_mean - tau_alpha * moments.log_alpha_std).view(-1, 1, 1) - cost
        weights += [gain0, (k_0 / b0).mT]
        offsets += [v_0 - k_0 @ gain0, masses]
        log_mass = by_query_head(masses)
    added = prior = whole = None
    if weights:
        weight, offset = (by_query_head(torch.cat(each, dim=-1)) for each in (weights, offsets))
        whole = QueryMap.laid_out(weight, offset, dtype)
        width = v_0.shape[-1]
        added = whole.part(slice(width)) if adds else None
        prior = whole.part(slice(-width - 1, None)) if settings.has_prior else None

    tokens = None
    if settings.changes_tokens:
        root = ((scale - tau_mu**2 / b1) / 2).clamp(min=0).sqrt()
        linear, fixed = -tau_mu * (1 - tau_mu) * k_0 / b1, (1 - tau_mu) ** 2 / 2 * k_0.square() / b1
        residual = None
        if widens and added is not None:
            residual = QueryMap(added.weight, by_query_head((1 - tau_mu) * (v_0 - k_0 @ gain1)))
        tokens = HeadTokens(
            tau_mu=tau_mu,
            key_mean=cast(k_0),
            query_scale=by_query_head(query_variance / b1),
            shared=by_query_head((1 - tau_mu) * (k_0 / b1).mT) if mixes else None,
            root=cast(root),
            shift=cast(linear / (2 * root)) if mixes else None,
            constant=cast(-(fixed + (linear / (2 * root)).square()).sum(-1, keepdim=True)) if mixes else None,
            regression=QueryMap.of_dtype(cast(gain1), cast(-k_0 @ gain1), dtype) if widens else None,
            residual=residual,
        )
    return PreparedHeads(
        tokens,
        added,
        prior,
        joint=None if added is None or prior is None else whole,
        log_mass=log_mass,
        token_share=tau_mu * float((query_variance / b1).mean()),
    )
