"""NV attention as ordinary attention (docs/method.md, section 4): what is run.

Token components are plain keys and values, projected from a scaled input, with one additive bias a
key. The prior is not a key: the log-sum-exp of plain attention gives its weight, and its value is
mixed in afterwards, so that masks, caches and kernels see the lengths of the pretrained model.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from nvreg.attention.kernel import attention_with_lse
from nvreg.attention.moments import Moments
from nvreg.attention.plain import HALF, widened
from nvreg.attention.rotary import Rotation, split_columns
from nvreg.attention.settings import SiteSettings

_QUERY_ENTRIES = {"cpu": 2**18, "cuda": 2**24}
"""How many numbers of queries are mapped at once: on a CPU, what they become stays in a core's caches."""


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
    """How z becomes what the key and value projections read, and each key's bias (section 4).

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


class QueryMap(NamedTuple):
    """An affine map of each head's queries, or one for all query heads of a key head.

    Attributes:
        weight: transposed matrices, shape (heads or key heads, e, n), in float32 at least; on a GPU of
            NVIDIA's, whose products of half precision are added up in float32, in the dtype of the model.
        offset: what is added, shape (heads or key heads, 1, n), in float32 at least.
    """

    weight: Tensor
    offset: Tensor

    @classmethod
    def laid_out(cls, weight: Tensor, offset: Tensor, dtype: torch.dtype) -> QueryMap:
        """Make a map of queries of some dtype, which reads memory in a row for each number that it returns.

        One query takes half the time so.
        """
        return cls.of_dtype(weight.mT.contiguous().mT, offset, dtype)

    @classmethod
    def of_dtype(cls, weight: Tensor, offset: Tensor, dtype: torch.dtype) -> QueryMap:
        """Make a map of queries, or keys, of some dtype."""
        return cls(weight.to(dtype) if dtype in HALF and weight.device.type == "cuda" else weight, offset)

    def __call__(self, query: Tensor) -> Tensor:
        """Map queries of shape (batch, heads, queries, e) to shape (batch, heads, queries, n)."""
        batch, heads, queries, width = query.shape
        maps = self.weight.shape[0]
        rows = query.to(self.weight.dtype).transpose(0, 1).reshape(maps, -1, width)
        by_map = self.of_rows(rows).view(maps, heads // maps, batch, queries, -1)
        return by_map.flatten(0, 1).transpose(0, 1)

    def of_rows(self, queries: Tensor) -> Tensor:
        """Map rows of queries by map, shape (maps, rows, e), to (maps, rows, n), in float32 at least."""
        if self.weight.dtype == self.offset.dtype:
            return torch.baddbmm(self.offset, queries, self.weight)
        return torch.bmm(queries, self.weight, out_dtype=self.offset.dtype) + self.offset

    def part(self, some: slice) -> QueryMap:
        """Return the map to some of the n dimensions, with the same memory."""
        return QueryMap(self.weight[..., some], self.offset[..., some])


class Prepared(NamedTuple):
    """All that one setting at one site needs; None where there is nothing to do.

    Attributes:
        tokens: how token components differ from the pretrained vectors.
        interpolation: queries to ``M1 q``, or None at tau_sigma = 0.
        prior: queries to what the prior adds, ``v_0 + M0 q``, and behind it its logit ``l_m0``, or None at
            tau_alpha = inf.
        joint: the two maps side by side, where there are both.
        token_share: mean over input coordinates of ``tau_mu v_u / b1``, for the discarded share (section 6).
        temperature: what logits of tokens are divided by.
    """

    tokens: TokenMap | None = None
    interpolation: QueryMap | None = None
    prior: QueryMap | None = None
    joint: QueryMap | None = None
    token_share: float = 1.0
    temperature: float = 1.0


def interpolation_map(ratio: Tensor, key: Projection, value: Projection) -> Tensor:
    """Return ``W_v diag(ratio) W_k^T`` of every key head, transposed: shape (key heads, e, e).

    Args:
        ratio: r0 or r1, shape (d,).
        key: the key projection.
        value: the value projection.
    """
    return (key.weight * ratio) @ value.weight.transpose(-1, -2)


def prepare(
    moments: Moments,
    settings: SiteSettings,
    scale: float,
    key: Projection,
    value: Projection,
    *,
    dtype: torch.dtype | None = None,
    interpolates: bool = True,
) -> Prepared:
    """Precompute a setting: vectors in float64, maps in the projections' dtype, cast last to ``dtype``.

    Args:
        moments: the site's prior.
        settings: the site's parameters.
        scale: c, by which the model multiplies ``q . k``.
        key: W_k and b_k.
        value: W_v and b_v, shape as key.
        dtype: the dtype of the model's activations; by default the projections'.
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

    tokens = interpolation = prior = None
    if settings.changes_tokens:
        mixed = tau_mu < 1
        tokens = TokenMap(
            input_scale=cast(tau_mu * query_variance / b1, dtype),
            input_shift=cast((1 - tau_mu) * mu_0 * query_variance / b1, dtype) if mixed else None,
            quadratic=cast((scale - tau_mu**2 / b1) / 2, wide),
            linear=cast(-tau_mu * (1 - tau_mu) * mu_0 / b1, wide) if mixed else None,
            constant=cast(-((1 - tau_mu) ** 2) * (mu_0.square() / b1).sum() / 2, wide),
        )
    weights, offsets = [], []
    has_interpolation = tau_sigma > 0 and interpolates
    if has_interpolation:
        weights.append(interpolation_map(cast(1 - query_variance / b1, wide), key, value))
        offsets.append(torch.zeros_like(key.bias))
    if settings.has_prior:
        log_spread = b0.log() - b1.log() if interpolates else 0.0
        log_mass = moments.log_alpha_mean - tau_alpha * moments.log_alpha_std
        log_mass -= float((mu_0.square() / b0 + log_spread).sum()) / 2
        seen = cast(mu_0 * query_variance / b0, wide)
        ratio = cast(var_0 / b0 if interpolates else torch.zeros_like(b0), wide)
        weights += [interpolation_map(ratio, key, value), scale * key(seen).unsqueeze(-1)]
        offsets.append(F.pad(value(seen), (0, 1), value=log_mass))
    if weights:
        weight, offset = torch.cat(weights, dim=-1), torch.cat(offsets, dim=-1).unsqueeze(1)
        whole, head_dim = QueryMap.laid_out(weight, offset, dtype), weight.shape[1]
        interpolation = whole.part(slice(head_dim)) if has_interpolation else None
        prior = whole.part(slice(-head_dim - 1, None)) if settings.has_prior else None
    return Prepared(
        tokens,
        interpolation,
        prior,
        joint=None if interpolation is None or prior is None else whole,
        token_share=tau_mu * float((query_variance / b1).mean()),
    )


def attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    prepared: Prepared,
    scale: float,
    *,
    bias: Tensor | None = None,
    mask: Tensor | None = None,
    is_causal: bool = False,
    need_weights: bool = False,
    rotation: Rotation | None = None,
    solve: Callable[[Tensor], Tensor] | None = None,
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Run NV attention on projected queries, keys and values (docs/method.md, sections 4 and 5).

    Args:
        query: ``W_q x + b_q``, not scaled, shape (batch, heads, queries, e).
        key: keys k_i, shape (batch, key heads, keys, e).
        value: values v_i, in the shape of key; behind them, at rotary sites with tau_sigma > 0, the
            `Rotation.columns` of the keys.
        prepared: from `prepare`.
        scale: c.
        bias: beta_i, shape (batch, 1, 1, keys), where the setting changes tokens.
        mask: bool (True is seen) or additive, broadcastable to (batch, heads, queries, keys).
        is_causal: query m sees keys 0..m only; not together with a mask.
        need_weights: return the weights too.
        rotation: the rotation of the queries, where positions are rotary; keys are rotated already.
        solve: takes ``g_m = l_m0 - L_m``, shape (batch, heads, queries), to the shift t of the tokens' log
            pseudo-counts, where the prior's weight is to be solved for (section 3).

    Returns:
        Head outputs, shape of query; weights with the prior in column 0, shape
        (batch, heads, queries, 1 + keys), or None; the prior's weights ``A_m0``, shape
        (batch, heads, queries), or None at tau_alpha = inf.
    """
    dtype = query.dtype
    query, key, value, mask = widened(query, key, value, mask)
    value, columns = split_columns(value, query.shape[-1])
    turned = query if rotation is None else rotation(query)
    if prepared.temperature != 1:
        scale, mask = scale / prepared.temperature, _tempered(mask, prepared.temperature)

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
    relative = None
    if rotation is not None and mean_columns is not None:
        relative = rotation.relative(turned, mean_columns)
    prior_weight = None
    if prepared.interpolation is not None or prepared.prior is not None:
        mix = partial(_mix, prepared=prepared, solve=solve)
        output, prior_weight = mix_blockwise(mix, output, lse, query, relative, needs_all=solve is not None)
    if weights is not None:
        first = (torch.zeros_like(lse) if prior_weight is None else prior_weight).unsqueeze(-1)
        weights = torch.cat([first, weights * (1 - first)], dim=-1).to(dtype)
    return output.to(dtype), weights, prior_weight


def mix_blockwise(
    mix: Callable[..., tuple[Tensor, Tensor | None]],
    output: Tensor,
    lse: Tensor,
    *others: Tensor | None,
    needs_all: bool,
) -> tuple[Tensor, Tensor | None]:
    """Mix what tokens give with what the prior gives, some queries at a time.

    Args:
        mix: takes the next arguments, or the parts of them that belong to some queries, to outputs and
            prior's weights.
        output: the output of plain attention, shape (batch, heads, queries, f); overwritten.
        lse: its log-sum-exp, shape (batch, heads, queries).
        others: tensors with the queries in dimension 2, or None.
        needs_all: that ``mix`` is to see all queries at once.

    Returns:
        Outputs and prior's weights of all queries.
    """
    batch, heads, queries, width = output.shape
    if needs_all or queries == 1 or torch.is_grad_enabled() or torch.compiler.is_compiling():
        return mix(output, lse, *others)
    entries = _QUERY_ENTRIES.get(output.device.type, _QUERY_ENTRIES["cuda"])
    step = max(64, entries // (batch * heads * width))
    if queries <= step:
        return mix(output, lse, *others)
    prior_weight = None
    for first in range(0, queries, step):
        some = slice(first, first + step)
        parts = (None if each is None else each[:, :, some] for each in (output, lse, *others))
        output[:, :, some], part = mix(*parts)
        if part is not None:
            prior_weight = torch.empty_like(lse) if prior_weight is None else prior_weight
            prior_weight[:, :, some] = part
    return output, prior_weight


def _mix(
    output: Tensor,
    lse: Tensor,
    query: Tensor,
    relative: Tensor | None,
    prepared: Prepared,
    solve: Callable[[Tensor], Tensor] | None,
) -> tuple[Tensor, Tensor | None]:
    """Add M1's and the prior's part to what tokens give (section 4); return the prior's weights too."""
    width, interpolation, prior = query.shape[-1], prepared.interpolation, prepared.prior
    moved = seen = None
    if prepared.joint is not None and relative is None:
        moved, seen = prepared.joint(query).split_with_sizes([width, width + 1], dim=-1)
    else:
        if interpolation is not None:
            moved = interpolation(query if relative is None else relative)
        if prior is not None:
            seen = prior(query)
    if moved is not None:
        output = output + moved
    if seen is None:
        return output, None
    prior_output, logit = seen.split_with_sizes([width, 1], dim=-1)
    odds = logit - lse.unsqueeze(-1)
    weight = torch.sigmoid(odds if solve is None else odds - solve(odds.squeeze(-1)))
    return output.to(weight.dtype).lerp_(prior_output, weight), weight.squeeze(-1)


def _tempered(mask: Tensor | None, temperature: float) -> Tensor | None:
    """Divide position biases by the temperature, and leave what hides a key as it is."""
    if mask is None or mask.dtype == torch.bool:
        return mask
    return torch.where(mask < torch.finfo(mask.dtype).min / 4, mask, mask / temperature)
