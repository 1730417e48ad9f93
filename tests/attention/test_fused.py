"""The fast form against the definition: random shapes, masks, priors and settings, in float64."""

import math
from typing import NamedTuple

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nvreg.attention import fused, reference
from nvreg.attention.fused import Prepared, Projection, attend, prepare
from nvreg.attention.kernel import attention_with_lse
from nvreg.attention.moments import Moments
from nvreg.attention.rotary import Rotation
from nvreg.attention.settings import SiteSettings

site_settings = st.builds(
    SiteSettings,
    tau_alpha=st.one_of(st.floats(-20, 20), st.just(math.inf)),
    tau_sigma=st.one_of(st.just(0.0), st.floats(0, 3)),
    tau_mu=st.one_of(st.just(1.0), st.floats(0, 1)),
)
sizes = st.fixed_dictionaries(
    {
        "batch": st.integers(1, 3),
        "heads": st.integers(1, 3),
        "queries": st.integers(1, 5),
        "keys": st.integers(1, 6),
        "width": st.integers(1, 7),
        "head_dim": st.sampled_from([1, 2, 4, 8]),
    }
)


class Case(NamedTuple):
    """Random tensors for one site."""

    query: torch.Tensor
    z: torch.Tensor
    key: Projection
    value: Projection
    moments: Moments


def random_case(seed, batch, heads, queries, keys, width, head_dim):
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    moments = Moments(normal(width), normal(width).square(), normal(()).item(), normal(()).abs().item())
    key = Projection(normal(heads, head_dim, width), normal(heads, head_dim))
    value = Projection(normal(heads, head_dim, width), normal(heads, head_dim))
    return Case(normal(batch, heads, queries, head_dim), normal(batch, keys, width), key, value, moments)


def fast(case: Case, parameters: Prepared, scale: float, **options):
    tokens = parameters.tokens
    means = case.z if tokens is None else tokens.means(case.z)
    bias = None if tokens is None else tokens.bias(case.z)[:, None, None]

    def project(projection):
        return torch.einsum("bid,hed->bhie", means, projection.weight) + projection.bias[:, None]

    return attend(case.query, project(case.key), project(case.value), parameters, scale, bias=bias, **options)


def defined(case: Case, site: SiteSettings, scale: float, mask=None):
    return reference.nv_attention(case.query, case.z, *case.key, *case.value, case.moments, site, scale, mask)


@settings(max_examples=300, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    size=sizes,
    site=site_settings,
    scale=st.sampled_from([1.0, 0.5, 0.125]),
    masked=st.sampled_from(["none", "bool", "additive", "shared", "causal"]),
    need_weights=st.booleans(),
)
def test_the_fast_form_is_the_definition(seed, size, site, scale, masked, need_weights):
    if masked == "causal":
        size = {**size, "queries": size["keys"]}
    case = random_case(seed, **size)
    rows = 1 if masked == "shared" else size["batch"]
    shape = (rows, 1, size["queries"], size["keys"])
    seen = torch.rand(shape, generator=torch.Generator().manual_seed(seed)) < 0.6
    seen[..., 0] |= not site.has_prior  # without a prior a query must see something
    additive = torch.zeros(shape, dtype=torch.float64).masked_fill(~seen, -torch.inf)
    options = {}
    if masked == "bool":
        options["mask"] = seen
    elif masked in ("additive", "shared"):
        finite = additive.masked_fill(~seen, torch.finfo(torch.float64).min) + 0.3 * seen
        options["mask"], additive = finite, additive + 0.3 * seen
    elif masked == "causal":
        options["is_causal"] = True
        additive = torch.full(shape[-2:], -torch.inf, dtype=torch.float64).triu(1)
    else:
        additive = None

    parameters = prepare(case.moments, site, scale, case.key, case.value)
    output, weights, prior_weight = fast(case, parameters, scale, need_weights=need_weights, **options)
    expected, expected_weights = defined(case, site, scale, additive)
    torch.testing.assert_close(output, expected, rtol=1e-10, atol=1e-10)
    if site.has_prior:
        torch.testing.assert_close(prior_weight, expected_weights[..., 0], rtol=1e-10, atol=1e-10)
    else:
        assert prior_weight is None
    if need_weights:
        torch.testing.assert_close(weights, expected_weights, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(
    "site", [SiteSettings(0.5, 0.4, 0.7), SiteSettings(-1.0), SiteSettings(math.inf, 0.4)]
)
def test_blocks_of_queries_are_the_whole(site, monkeypatch):
    case = random_case(1, batch=2, heads=2, queries=130, keys=5, width=6, head_dim=4)
    parameters = prepare(case.moments, site, 0.5, case.key, case.value)
    with torch.inference_mode():
        whole = fast(case, parameters, 0.5)
        monkeypatch.setitem(fused._QUERY_ENTRIES, "cpu", 1)
        in_blocks = fast(case, parameters, 0.5)
    torch.testing.assert_close(in_blocks, whole, rtol=1e-12, atol=1e-12)
    expected, _ = defined(case, site, 0.5)
    torch.testing.assert_close(in_blocks[0], expected, rtol=1e-10, atol=1e-10)


def test_blocks_of_rotated_queries_are_the_whole(monkeypatch):
    case = random_case(2, batch=2, heads=2, queries=130, keys=130, width=6, head_dim=4)
    parameters = prepare(case.moments, SiteSettings(0.5, 0.4), 0.5, case.key, case.value)
    angles = torch.arange(130.0).double()[:, None] * torch.tensor([1.0, 0.1, 1.0, 0.1]).double()
    rotation = Rotation(angles.cos()[None, None], angles.sin()[None, None])
    key, value = torch.randn(2, 2, 2, 130, 4, generator=torch.Generator().manual_seed(0)).double()
    values = torch.cat([value, rotation.columns(2, 2)], dim=-1)

    def run():
        return attend(case.query, key, values, parameters, 0.5, rotation=rotation, is_causal=True)

    with torch.inference_mode():
        whole = run()
        monkeypatch.setitem(fused._QUERY_ENTRIES, "cpu", 1)
        in_blocks = run()
    torch.testing.assert_close(in_blocks, whole, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("need_weights", [False, True])
@pytest.mark.parametrize("masked", ["bool", "additive"])
def test_a_query_that_sees_no_key_attends_to_the_prior_alone(masked, need_weights):
    case = random_case(0, batch=2, heads=2, queries=3, keys=4, width=5, head_dim=4)
    seen = torch.ones(2, 1, 3, 4, dtype=torch.bool)
    seen[0, :, 1] = False
    mask = seen if masked == "bool" else (~seen).double() * torch.finfo(torch.float64).min
    site = SiteSettings(20.0, 0.3, 0.8)
    parameters = prepare(case.moments, site, 0.5, case.key, case.value)
    output, _, prior_weight = fast(case, parameters, 0.5, mask=mask, need_weights=need_weights)
    assert (prior_weight[0, :, 1] == 1).all()
    expected, _ = defined(case, site, 0.5, torch.zeros(2, 1, 3, 4).masked_fill(~seen, -torch.inf))
    torch.testing.assert_close(output, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(
    "site", [SiteSettings(0.5, 0.4, 0.7), SiteSettings(math.inf, 0.4), SiteSettings(-1.0)]
)
def test_key_heads_serve_groups_of_query_heads(site):
    case = random_case(3, batch=2, heads=2, queries=4, keys=5, width=6, head_dim=4)
    query = torch.randn(2, 6, 4, 4, dtype=torch.float64)
    grouped = case._replace(query=query)
    parameters = prepare(case.moments, site, 0.5, case.key, case.value)
    output, _, _ = fast(grouped, parameters, 0.5)

    def repeat(projection):
        return Projection(*(part.repeat_interleave(3, 0) for part in projection))

    expected, _ = defined(grouped._replace(key=repeat(case.key), value=repeat(case.value)), site, 0.5)
    torch.testing.assert_close(output, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("site", [SiteSettings(0.5, 0.4, 0.7), SiteSettings(-1.0)])
def test_gradients_include_the_weight_of_the_prior(site):
    case = random_case(5, batch=1, heads=1, queries=2, keys=3, width=3, head_dim=2)
    parameters = prepare(case.moments, site, 0.5, case.key, case.value)

    def run(query):
        return fast(case._replace(query=query), parameters, 0.5)[0]

    assert torch.autograd.gradcheck(run, case.query.requires_grad_())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_the_bias_is_kept_in_float32_in_half_precision(dtype):
    case = random_case(7, batch=1, heads=1, queries=1, keys=6, width=64, head_dim=8)
    site = SiteSettings(0.0, 0.5, 0.5)
    z = (10 * case.z).to(dtype)
    key, value = (Projection(p.weight.float(), p.bias.float()) for p in (case.key, case.value))
    bias = prepare(case.moments, site, 0.35, key, value, dtype=dtype).tokens.bias(z)
    exact = prepare(case.moments, site, 0.35, case.key, case.value).tokens.bias(z.double())
    assert bias.dtype == torch.float32
    assert exact.abs().max() > 100
    torch.testing.assert_close(bias.double(), exact, rtol=1e-6, atol=1e-4)


def test_products_beyond_float16_do_not_overflow():
    query = torch.full((1, 1, 2, 8), 200.0, dtype=torch.float16)
    key = torch.stack([query[0, 0, 0], -query[0, 0, 0]])[None, None]
    value = torch.tensor([[[[1.0] * 8, [2.0] * 8]]], dtype=torch.float16)
    for need_weights in (False, True):
        output, lse, *_ = attention_with_lse(query, key, value, 0.5, need_weights=need_weights)
        assert (output == 1).all()
        assert (lse == 160_000).all()


@given(seed=st.integers(0, 2**31), low=st.floats(-10, 10), more=st.floats(0, 10), tau_sigma=st.floats(0, 2))
@settings(deadline=None)
def test_more_tau_alpha_means_less_weight_on_the_prior(seed, low, more, tau_sigma):
    case = random_case(seed, batch=1, heads=2, queries=3, keys=4, width=5, head_dim=4)

    def prior_weight(tau_alpha):
        site = SiteSettings(tau_alpha, tau_sigma)
        return fast(case, prepare(case.moments, site, 0.5, case.key, case.value), 0.5)[2]

    assert (prior_weight(low + more) <= prior_weight(low) + 1e-15).all()


@given(seed=st.integers(0, 2**31), tau_sigma=st.floats(0, 2), tau_mu=st.floats(0, 1))
@settings(deadline=None)
def test_a_very_negative_tau_alpha_gives_the_output_of_the_prior(seed, tau_sigma, tau_mu):
    case = random_case(seed, batch=1, heads=2, queries=3, keys=4, width=5, head_dim=4)
    moments = Moments(case.moments.mean, case.moments.variance, 0.0, 1.0)
    site = SiteSettings(-1e6, tau_sigma, tau_mu)
    output, _, prior_weight = fast(case, prepare(moments, site, 0.5, case.key, case.value), 0.5)
    assert (prior_weight == 1).all()
    variance = moments.variance + 2
    u = torch.einsum("bhme,hed->bhmd", case.query, case.key.weight)
    mean = moments.variance / variance * u + 2 / variance * moments.mean
    expected = torch.einsum("bhmd,hed->bhme", mean, case.value.weight) + case.value.bias[:, None]
    torch.testing.assert_close(output, expected)
