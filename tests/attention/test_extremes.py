"""Activations, priors and settings at the edge, in every dtype, both spaces and however computed: as defined.

The tolerance is what rounding can do: a relative error of some units in the last place of every number that
is summed. A logit that is off by d changes a weight by a factor of exp(2 d) at most, and an output by as much
of what it is a mean of; where logits are so large that d is not small, no more is left to say than that it is
finite.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from nvreg.attention import kernel, plain
from nvreg.attention.fused import Projection, attend, prepare
from nvreg.attention.heads import attend_heads
from nvreg.attention.moments import HeadMoments, Moments
from nvreg.attention.prepared_heads import prepare_heads
from nvreg.attention.reference import nv_attention
from nvreg.attention.settings import SiteSettings
from tests.attention import heads_definition

DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]
ULPS = 16
"""Units in the last place by which each number that is summed may be off."""

SITES = st.builds(
    SiteSettings,
    tau_alpha=st.one_of(st.just(math.inf), st.floats(-30, 30), st.sampled_from([-1e6, -1e3, 1e3, 1e6])),
    tau_sigma=st.one_of(st.just(0.0), st.floats(0, 3), st.sampled_from([1e-12, 1e-4, 50.0, 1e4])),
    tau_mu=st.one_of(st.just(1.0), st.floats(0, 1), st.sampled_from([0.0, 1e-9, 1 - 1e-9])),
)
ACTIVATIONS = st.sampled_from(["normal", "outliers", "constant", "zero", "tiny", "one token"])
VARIANCES = st.sampled_from(["normal", "none", "tiny", "huge", "mixed"])
PADDING = st.sampled_from(["none", "some", "a row"])
BACKENDS = st.sampled_from(["flash", "weights", "blocks", "gradient"])
"""Ways to compute attention: by the flash kernel, plainly with weights, plainly in blocks of a row, as an
accelerator does, or plainly for a gradient."""


class Bound(NamedTuple):
    """What numbers are summed: their sizes decide how much rounding can do.

    Attributes:
        products: of queries and keys, which have the dtype of the model.
        others: in logits, which have float32 at least.
        outputs: in outputs.
        defined: in the definition's logits, in float64, before they cancel.
    """

    products: float
    others: float
    outputs: float
    defined: float

    def tolerance(self, dtype: torch.dtype) -> float:
        eps, wide = torch.finfo(dtype).eps, torch.finfo(torch.promote_types(dtype, torch.float32)).eps
        off = ULPS * (
            eps * self.products + wide * self.others + torch.finfo(torch.float64).eps * self.defined
        )
        return (2 * min(1.0, math.expm1(min(2 * off, 1.0))) + ULPS * eps) * self.outputs


@contextmanager
def computed_by(backend: str, query: Tensor) -> Iterator[None]:
    """Have attention be computed in one way."""
    with pytest.MonkeyPatch.context() as patch:
        if backend == "blocks":
            patch.setitem(plain._MAP_ENTRIES, "cpu", 1)
            patch.setattr(kernel, "_flash_on_cpu", plain.attend_blockwise)
        query.requires_grad_(backend == "gradient")
        yield
        query.requires_grad_(False)


def activations(kind: str, tensor: Tensor) -> Tensor:
    """Return random vectors [..., tokens, width] of a kind."""
    if kind == "outliers":
        tensor = tensor.clone()
        tensor[..., 0] = 1e4 * tensor[..., 0].sign()
    if kind == "constant":
        return tensor[..., :1, :].expand(tensor.shape).contiguous()
    return {"zero": 0 * tensor, "tiny": 1e-6 * tensor, "one token": tensor[..., :1, :]}.get(kind, tensor)


def variance(kind: str, tensor: Tensor) -> Tensor:
    """Return variances of a kind."""
    if kind == "mixed":
        return torch.where(torch.arange(tensor.shape[-1]) % 2 == 0, torch.zeros_like(tensor), 1e4 * tensor)
    return tensor * {"none": 0.0, "tiny": 1e-12, "huge": 1e6}.get(kind, 1.0)


def hidden(kind: str, batch: int, keys: int) -> Tensor | None:
    """Return what is seen, [batch, 1, 1, keys], or None for everything."""
    seen = torch.ones(batch, 1, 1, keys, dtype=torch.bool)
    if kind == "some":
        seen[..., 1:] = torch.arange(1, keys) % 2 == 0
    if kind == "a row":
        seen[0] = False
    return None if kind == "none" else seen


def check_heads(seed, dtype, site, kind, spread, padding, backend, queries, scale) -> None:
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    batch, heads, groups, tokens, e, f = 2, 2, 2, 5, 4, 3
    key = activations(kind, normal(batch, heads, tokens, e)).to(dtype)
    value, query = (
        normal(batch, heads, key.shape[2], f).to(dtype),
        normal(batch, heads * groups, queries, e).to(dtype),
    )
    moments = HeadMoments(
        normal(heads, e),
        normal(heads, f),
        variance(spread, normal(heads, e).square()),
        normal(heads, f, e) * variance(spread, torch.ones(heads, 1, e, dtype=torch.float64)).sqrt(),
        normal(heads),
        normal(()).abs().item(),
    )
    seen = hidden(padding, batch, key.shape[2])
    parameters = prepare_heads(moments, site, scale, groups=groups, dtype=dtype)
    with computed_by(backend, query):
        output, weights, prior_weight = attend_heads(
            query, key, value, parameters, scale, mask=seen, need_weights=backend == "weights"
        )
    added = None
    if seen is not None:
        shown = seen.expand(batch, heads * groups, queries, -1)
        added = torch.zeros(shown.shape, dtype=torch.float64).masked_fill(~shown, -torch.inf)
    rows = (
        slice(1, None) if padding == "a row" and not site.has_prior else slice(None)
    )  # else nothing is defined
    expected, _, _ = heads_definition.attend(
        query[rows],
        key[rows],
        value[rows],
        moments,
        site,
        scale,
        added=None if added is None else added[rows],
    )
    judge(
        output,
        expected,
        rows,
        bound_of_heads(query, key, value, moments, site, scale),
        dtype,
        weights,
        prior_weight,
    )


def bound_of_heads(query, key, value, moments, site, scale) -> Bound:
    """Return the sizes of what is summed in head space (docs/method.md, section 9)."""
    q, k, v = (each.double().abs().amax((0, 1, 2)) for each in (query, key, value))
    k_0, v_0 = moments.key_mean.abs().amax(0), moments.value_mean.abs().amax(0)
    noise = 1 / scale
    b1 = site.tau_sigma**2 * moments.key_variance + noise
    mu = site.tau_mu
    square, linear = (scale - mu**2 / b1) / 2, mu * (1 - mu) * k_0 / b1
    shift = torch.nan_to_num(linear**2 / (4 * square))
    others = (square * k**2 + linear * k + 2 * shift + (1 - mu) ** 2 * k_0**2 / b1).sum(-1).max()
    others += ((1 - mu) * q * k_0 / b1).sum(-1).max()
    others += prior_size(moments, site) + (q * k_0 / (moments.key_variance + noise)).sum(-1).max()
    others += (k_0**2 / (moments.key_variance + noise)).sum(-1).max()
    gain = [moments.covariance.abs() / (moments.key_variance + noise).unsqueeze(1)]
    gain.append(site.tau_sigma**2 * moments.covariance.abs() / b1.unsqueeze(1))
    outputs = v.max() + v_0.max() + max((each * (q + k + k_0)).sum(-1).max() for each in gain)
    return Bound(float((scale * q * k).sum()), float(others), float(outputs), float(scale * k.square().sum()))


def check_inputs(seed, dtype, site, kind, spread, padding, backend, queries, scale) -> None:
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    batch, heads, tokens, d, e = 2, 2, 5, 6, 4
    wide = torch.promote_types(dtype, torch.float32)
    z = activations(kind, normal(batch, tokens, d)).to(dtype)
    query = normal(batch, heads, queries, e).to(dtype)
    key, value = (Projection(normal(heads, e, d).to(dtype), normal(heads, e).to(dtype)) for _ in range(2))
    moments = Moments(
        normal(d), variance(spread, normal(d).square()), normal(()).item(), normal(()).abs().item()
    )
    parameters = prepare(
        moments,
        site,
        scale,
        *(Projection(*(each.to(wide) for each in part)) for part in (key, value)),
        dtype=dtype,
    )
    means = z if parameters.tokens is None else parameters.tokens.means(z)
    bias = None if parameters.tokens is None else parameters.tokens.bias(z)[:, None, None]

    def project(projection):
        return torch.einsum("bid,hed->bhie", means, projection.weight) + projection.bias[:, None]

    seen = hidden(padding, batch, z.shape[1])
    with computed_by(backend, query):
        output, weights, prior_weight = attend(
            query,
            project(key),
            project(value),
            parameters,
            scale,
            bias=bias,
            mask=seen,
            need_weights=backend == "weights",
        )
    rows = slice(1, None) if padding == "a row" and not site.has_prior else slice(None)
    added = None
    if seen is not None:
        added = torch.zeros(seen[rows].shape, dtype=torch.float64).masked_fill(~seen[rows], -torch.inf)
    parts = [each.double() for each in (*key, *value)]
    expected, _ = nv_attention(query[rows].double(), z[rows].double(), *parts, moments, site, scale, added)
    judge(
        output,
        expected,
        rows,
        bound_of_inputs(query, z, key, value, moments, site, scale),
        dtype,
        weights,
        prior_weight,
    )


def bound_of_inputs(query, z, key, value, moments, site, scale) -> Bound:
    """Return the sizes of what is summed in input space (docs/method.md, section 4)."""
    q, x = query.double().abs().amax((0, 2)), z.double().abs().amax((0, 1))
    noise, mu, m0 = 1 / scale, site.tau_mu, moments.mean.abs()
    b0, b1 = moments.variance + noise, site.tau_sigma**2 * moments.variance + noise
    mean = (mu * x + (1 - mu) * m0) * noise / b1

    def projected(projection, vector):
        return projection.weight.double().abs() @ vector + projection.bias.double().abs()

    products = (scale * q * projected(key, mean)).sum(-1).max()
    square = (scale - mu**2 / b1) / 2
    others = (square * x**2 + mu * (1 - mu) * m0 * x / b1 + (1 - mu) ** 2 * m0**2 / b1 + m0**2 / b0).sum()
    others += (scale * q * projected(key, m0 * noise / b0)).sum(-1).max() + prior_size(moments, site)
    turned = torch.einsum("he,hed->hd", q, key.weight.double().abs())
    outputs = projected(value, mean).max() + projected(value, m0 * noise / b0).max()
    for ratio in (moments.variance / b0, 1 - noise / b1):
        outputs += torch.einsum("hed,hd->he", value.weight.double().abs(), ratio * turned).max()
    return Bound(float(products), float(others), float(outputs), float(scale * x.square().sum()))


def prior_size(moments, site) -> float:
    """Return the size of what the prior's logit has beside its mean."""
    shift = 0.0 if math.isinf(site.tau_alpha) else abs(site.tau_alpha) * moments.log_alpha_std
    return shift + float(torch.as_tensor(moments.log_alpha_mean).abs().max()) + 100.0


def judge(output, expected, rows, bound, dtype, weights, prior_weight) -> None:
    output = output.detach()
    if bound.outputs > torch.finfo(dtype).max:
        return  # what has to be summed is beyond the dtype, as it is beyond float16 above 65,504
    assert torch.isfinite(output).all()
    for each in (weights, prior_weight):
        if each is not None:
            each = each.detach()
            assert torch.isfinite(each).all()
            assert (each >= 0).all()
            assert (each <= 1.01).all()
    assert torch.isfinite(expected).all()
    error = (output[rows].double() - expected).abs().max().item()
    assert error <= bound.tolerance(dtype), (error, bound)


EXTREMES = {
    "seed": st.integers(0, 2**31),
    "dtype": st.sampled_from(DTYPES),
    "site": SITES,
    "kind": ACTIVATIONS,
    "spread": VARIANCES,
    "padding": PADDING,
    "backend": BACKENDS,
    "queries": st.sampled_from([1, 3]),
    "scale": st.sampled_from([1.0, 0.125]),
}


@pytest.mark.parametrize("check", [check_heads, check_inputs])
@settings(max_examples=60)
@given(**EXTREMES)
def test_extremes_are_finite_and_as_defined(check, **case):
    check(**case)


@pytest.mark.faults
@pytest.mark.parametrize("check", [check_heads, check_inputs])
@settings(max_examples=1500)
@given(**EXTREMES)
def test_many_extremes_are_finite_and_as_defined(check, **case):
    check(**case)
