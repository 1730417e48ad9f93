"""NV attention as ordinary attention (docs/method.md, section 4): what is run.

Token components are plain keys and values, projected from a scaled input, with one additive bias a
key. The prior is not a key: the log-sum-exp of plain attention gives its weight, and its value is
mixed in afterwards, so that masks, caches and kernels see the lengths of the pretrained model.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from nvreg.attention.kernel import attention_with_lse
from nvreg.attention.moments import Moments
from nvreg.attention.rotary import Rotation, split_columns
from nvreg.attention.settings import SiteSettings


class Projection(NamedTuple):
    """A pretrained key or value projection, by head.

    Attributes:
        weight: shape (key heads, e, d).
        bias: shape (key heads, e).
    """

    weight: Tensor
    bias: Tensor

    def __call__(self, z: Tensor) -> Tensor:
        """Project ``z`` of shape (d,) to shape (key heads, e)."""
        return self.weight @ z + self.bias


class TokenMap(NamedTuple):
    """From z to what the key and value projections read, and to each key's bias (section 4).

    Attributes:
        input_scale: ``tau_mu v_u / b1``, shape (d,), in the dtype of z.
        input_shift: ``(1 - tau_mu) mu_0 v_u / b1``, shape (d,), or None where tau_mu is 1.
        quadratic: ``(c - tau_mu^2 / b1) / 2``, shape (d,), in float32 at least, like the next two.
        linear: ``-tau_mu (1 - tau_mu) mu_0 / b1``, shape (d,), or None where tau_mu is 1.
        constant: ``-(1 - tau_mu)^2 sum(mu_0^2 / b1) / 2``, a scalar.
    """

    input_scale: Tensor
    input_shift: Tensor | None
    quadratic: Tensor
    linear: Tensor | None
    constant: Tensor

    def means(self, z: Tensor) -> Tensor:
        """Return ``mu_i v_u / b1``, the input of the key and value projections, in the shape of z."""
        if self.input_shift is None:
            return z * self.input_scale
        return torch.addcmul(self.input_shift, z, self.input_scale)

    def bias(self, z: Tensor) -> Tensor:
        """Return ``beta_i`` of every token, shape (batch, keys), in float32 at least."""
        z = z.to(self.quadratic.dtype)
        bias = z.square() @ self.quadratic
        if self.linear is not None:
            bias = bias + (z @ self.linear + self.constant)
        return bias


class PriorSlot(NamedTuple):
    """The prior component of a site, whatever the setting (section 4): from queries to its value and logit.

    Attributes:
        query_map: transposed M0, behind it ``c k_0``, shape (heads, e, e + 1), in float32 at least.
        offset: ``v_0``, behind it 0, shape (heads, 1, e + 1), in the same dtype.
    """

    query_map: Tensor
    offset: Tensor


class Parameters(NamedTuple):
    """All that one setting at one site needs; None where there is nothing to do.

    Attributes:
        tokens: how token components differ from the pretrained vectors.
        prior: the prior component, or None at tau_alpha = inf.
        log_mass: beta_0, the prior's bias.
        query_map: transposed M1, shape (heads, e, e), or None at tau_sigma = 0.
        token_share: mean over input coordinates of ``tau_mu v_u / b1``, for the discarded share (section 6).
        temperature: what logits of tokens are divided by.
    """

    tokens: TokenMap | None = None
    prior: PriorSlot | None = None
    log_mass: float = 0.0
    query_map: Tensor | None = None
    token_share: float = 1.0
    temperature: float = 1.0


def interpolation_map(ratio: Tensor, key: Projection, value: Projection, groups: int) -> Tensor:
    """Return ``W_v diag(ratio) W_k^T`` of every query head, transposed: shape (heads, e, e).

    Args:
        ratio: r0 or r1, shape (d,).
        key: the key projection.
        value: the value projection.
        groups: query heads per key head.
    """
    return torch.einsum("hed,hfd->hef", key.weight * ratio, value.weight).repeat_interleave(groups, 0)


def prepare(
    moments: Moments,
    settings: SiteSettings,
    scale: float,
    key: Projection,
    value: Projection,
    *,
    groups: int = 1,
    dtype: torch.dtype | None = None,
    slot: PriorSlot | None = None,
    interpolates: bool = True,
) -> Parameters:
    """Precompute a setting: vectors in float64, maps in the projections' dtype, cast last to ``dtype``.

    Args:
        moments: the site's prior.
        settings: the site's parameters.
        scale: c, by which the model multiplies ``q . k``.
        key: W_k and b_k.
        value: W_v and b_v, shape as key.
        groups: query heads per key head (section 5).
        dtype: of the model's activations; by default the projections'.
        slot: the prior component, where `prior_slot` made it for an earlier setting.
        interpolates: False leaves out M0, M1 and the ``log s`` terms: an ablation of the method.
    """
    dtype = dtype or key.weight.dtype
    wide = key.weight.dtype
    tau_alpha, tau_sigma, tau_mu = settings
    mu_0, var_0 = moments.mean, moments.variance
    query_variance = 1 / scale
    b1 = tau_sigma**2 * var_0 + query_variance
    b0 = var_0 + query_variance

    def cast(tensor: Tensor, to: torch.dtype) -> Tensor:
        return tensor.to(key.weight.device, to)

    tokens = query_map = None
    if settings.changes_tokens:
        mixed = tau_mu < 1
        tokens = TokenMap(
            input_scale=cast(tau_mu * query_variance / b1, dtype),
            input_shift=cast((1 - tau_mu) * mu_0 * query_variance / b1, dtype) if mixed else None,
            quadratic=cast((scale - tau_mu**2 / b1) / 2, wide),
            linear=cast(-tau_mu * (1 - tau_mu) * mu_0 / b1, wide) if mixed else None,
            constant=cast(-((1 - tau_mu) ** 2) * (mu_0.square() / b1).sum() / 2, wide),
        )
    if tau_sigma > 0 and interpolates:
        query_map = interpolation_map(cast(1 - query_variance / b1, wide), key, value, groups).to(dtype)
    log_mass = moments.log_alpha_mean - (tau_alpha * moments.log_alpha_std if settings.has_prior else 0.0)
    log_spread = b0.log() - b1.log() if interpolates else 0.0
    log_mass -= float((mu_0.square() / b0 + log_spread).sum()) / 2
    if settings.has_prior and slot is None:
        slot = prior_slot(moments, scale, key, value, groups=groups, interpolates=interpolates)
    return Parameters(
        tokens,
        slot if settings.has_prior else None,
        log_mass,
        query_map,
        token_share=tau_mu * float((query_variance / b1).mean()),
    )


def prior_slot(
    moments: Moments,
    scale: float,
    key: Projection,
    value: Projection,
    *,
    groups: int,
    interpolates: bool = True,
) -> PriorSlot:
    """Return the prior component, which no setting changes; arguments as in `prepare`."""
    wide, device = key.weight.dtype, key.weight.device
    b0 = moments.variance + 1 / scale
    seen = (moments.mean / scale / b0).to(device, wide)
    ratio = (moments.variance / b0 if interpolates else torch.zeros_like(b0)).to(device, wide)
    logit = (scale * key(seen)).repeat_interleave(groups, 0).unsqueeze(-1)
    offset = F.pad(value(seen), (0, 1)).repeat_interleave(groups, 0).unsqueeze(1)
    return PriorSlot(torch.cat([interpolation_map(ratio, key, value, groups), logit], dim=-1), offset)


def attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    parameters: Parameters,
    scale: float,
    *,
    bias: Tensor | None = None,
    mask: Tensor | None = None,
    is_causal: bool = False,
    need_weights: bool = False,
    rotation: Rotation | None = None,
    solve: Callable[[Tensor], float] | None = None,
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Run NV attention on projected queries, keys and values (docs/method.md, sections 4 and 5).

    Args:
        query: ``W_q x + b_q``, not scaled, shape (batch, heads, queries, e).
        key: keys k_i, shape (batch, key heads, keys, e).
        value: values v_i, in the shape of key; behind them, at rotary sites with tau_sigma > 0, the
            `Rotation.columns` of the keys.
        parameters: from `prepare`.
        scale: c.
        bias: beta_i, shape (batch, 1, 1, keys), where the setting changes tokens.
        mask: bool (True is seen) or additive, broadcastable to (batch, heads, queries, keys).
        is_causal: query m sees keys 0..m only; not together with a mask.
        need_weights: return the weights too.
        rotation: of the queries, where positions are rotary; keys are rotated already.
        solve: takes ``g_m = l_m0 - L_m``, shape (batch, heads, queries), to the shift t of the tokens' log
            pseudo-counts, where the prior's weight is to be solved for (section 3).

    Returns:
        Head outputs, shape of query; weights with the prior in column 0, shape
        (batch, heads, queries, 1 + keys), or None; the prior's weights ``A_m0``, shape
        (batch, heads, queries), or None at tau_alpha = inf.
    """
    value, columns = split_columns(value, query.shape[-1])
    turned = query if rotation is None else rotation(query)
    if parameters.temperature != 1:
        scale, mask = scale / parameters.temperature, _tempered(mask, parameters.temperature)

    output, lse, mean_columns, weights = attention_with_lse(
        turned,
        key,
        value,
        scale,
        columns=columns,
        bias=bias,
        mask=mask,
        is_causal=is_causal,
        need_weights=need_weights,
    )
    prior = parameters.prior
    gate = None
    if parameters.query_map is not None:
        relative = query
        if rotation is not None and mean_columns is not None:
            relative = rotation.relative(turned, mean_columns)
        output = output + _map_queries(relative, parameters.query_map)
    if prior is not None:
        seen = _map_queries(query, prior.query_map, prior.offset)
        odds = seen[..., -1] + parameters.log_mass - lse
        gate = torch.sigmoid(odds if solve is None else odds - solve(odds))
        output = torch.lerp(output, seen[..., :-1].to(output.dtype), gate.to(output.dtype).unsqueeze(-1))
    if weights is not None:
        first = torch.zeros_like(lse) if gate is None else gate
        weights = torch.cat(
            [first.unsqueeze(-1).to(weights.dtype), weights * (1 - first).unsqueeze(-1)], dim=-1
        )
    return output, weights, gate


def _map_queries(query: Tensor, query_map: Tensor, offset: Tensor | None = None) -> Tensor:
    """Multiply each head's queries by its matrix, in one batched product over heads."""
    batch, heads, queries, width = query.shape
    flat = query.to(query_map.dtype).transpose(0, 1).reshape(heads, batch * queries, width)
    mapped = torch.bmm(flat, query_map) if offset is None else torch.baddbmm(offset, flat, query_map)
    return mapped.view(heads, batch, queries, -1).transpose(0, 1)


def _tempered(mask: Tensor | None, temperature: float) -> Tensor | None:
    """Divide position biases by the temperature, and leave what hides a key as it is."""
    if mask is None or mask.dtype == torch.bool:
        return mask
    return torch.where(mask < torch.finfo(mask.dtype).min / 4, mask, mask / temperature)
