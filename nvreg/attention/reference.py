"""NV attention exactly as it is defined, in the input space (docs/method.md, sections 2 and 5).

Slow by design: every query, key and input coordinate meets. It is what the fast form is tested
against, and the text to read first.
"""

from __future__ import annotations

import torch
from torch import Tensor

from nvreg.attention.moments import Moments
from nvreg.attention.settings import SiteSettings


def nv_attention(
    query: Tensor,
    z: Tensor,
    key_weight: Tensor,
    key_bias: Tensor,
    value_weight: Tensor,
    value_bias: Tensor,
    moments: Moments,
    settings: SiteSettings,
    scale: float,
    mask: Tensor | None = None,
    rotation: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Return the posterior means and the weights of denoising attention (docs/method.md, section 2).

    Args:
        query: ``q_m = W_q x_m + b_q``, not scaled, shape (batch, heads, queries, e).
        z: what keys and values are projected from, shape (batch, keys, d).
        key_weight: W_k of each head, shape (heads, e, d).
        key_bias: b_k, shape (heads, e).
        value_weight: W_v, shape (heads, e, d).
        value_bias: b_v, shape (heads, e).
        moments: the site's prior.
        settings: the site's parameters.
        scale: c, by which the model multiplies ``q_m . k_i``.
        mask: added to the logits of real keys (position bias, ``-inf`` where not seen),
            broadcastable to (batch, heads, queries, keys).
        rotation: rotary positions as matrices ``R_(m-i)``, shape (batch, queries, keys, e, e) (section 5).

    Returns:
        Head outputs, shape (batch, heads, queries, e), and weights with the prior in column 0,
        shape (batch, heads, queries, 1 + keys).
    """
    tau_alpha, tau_sigma, tau_mu = settings
    batch, keys, width = z.shape
    mu_0, var_0 = moments.mean.to(z), moments.variance.to(z)

    # Components 0..n: mean, variance, log pseudo-count.
    mu = torch.cat([mu_0.expand(batch, 1, width), tau_mu * z + (1 - tau_mu) * mu_0], dim=1)
    var = torch.cat([var_0.expand(1, width), (tau_sigma**2 * var_0).expand(keys, width)])
    log_alpha = torch.cat(
        [
            z.new_full((batch, 1), moments.log_alpha_mean),
            scale / 2 * z.square().sum(-1)
            + (tau_alpha * moments.log_alpha_std if settings.has_prior else 0.0),
        ],
        dim=1,
    )
    query_variance = 1 / scale
    total = var + query_variance

    # The query in the input space; with rotary positions it depends on the component.
    if rotation is None:
        u = torch.einsum("bhme,hed->bhmd", query, key_weight)
        logits = torch.einsum("bhmd,bid->bhmi", u, mu / total)
        logits = logits + scale * torch.einsum("bhme,he->bhm", query, key_bias).unsqueeze(-1)
    else:
        unrotated = torch.eye(query.shape[-1]).to(z).expand(*rotation.shape[:2], 1, -1, -1)
        turned = torch.einsum("bmief,bhmf->bhmie", torch.cat([unrotated, rotation], dim=2), query)
        u = torch.einsum("bhmie,hed->bhmid", turned, key_weight)
        logits = torch.einsum("bhmid,bid->bhmi", u, mu / total)
        logits = logits + scale * torch.einsum("bhmie,he->bhmi", turned, key_bias)
    per_component = log_alpha - (mu.square() / total).sum(-1) / 2 - total.log().sum(-1) / 2
    logits = logits + per_component[:, None, None]
    if mask is not None:
        logits = torch.cat([logits[..., :1], logits[..., 1:] + mask], dim=-1)
    if not settings.has_prior:
        logits = torch.cat([torch.full_like(logits[..., :1], -torch.inf), logits[..., 1:]], dim=-1)
    weights = logits.softmax(-1)

    means = weights @ (query_variance / total * mu).unsqueeze(1)
    if rotation is None:
        interpolated = means + torch.einsum("bhmi,id->bhmd", weights, var / total) * u
    else:
        interpolated = means + torch.einsum("bhmi,id,bhmid->bhmd", weights, var / total, u)
    return torch.einsum("bhmd,hed->bhme", interpolated, value_weight) + value_bias[:, None], weights
