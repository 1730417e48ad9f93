"""The head-space form that is run against its definition, written out in loops, in float64."""

import math
from dataclasses import replace
from typing import NamedTuple

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nvreg.attention import fused, plain
from nvreg.attention.heads import attend_heads
from nvreg.attention.moments import HeadMoments
from nvreg.attention.prepared_heads import prepare_heads
from nvreg.attention.settings import SiteSettings
from tests.attention import heads_definition

EXACT = {"rtol": 1e-10, "atol": 1e-10}
LOWEST = torch.finfo(torch.float64).min

site_settings = st.builds(
    SiteSettings,
    tau_alpha=st.one_of(st.floats(-20, 20), st.just(math.inf)),
    tau_sigma=st.one_of(st.just(0.0), st.floats(0, 3)),
    tau_mu=st.one_of(st.just(1.0), st.floats(0, 1)),
)
sizes = st.fixed_dictionaries(
    {
        "batch": st.integers(1, 2),
        "key_heads": st.integers(1, 2),
        "groups": st.integers(1, 3),
        "queries": st.integers(1, 4),
        "keys": st.integers(1, 6),
        "key_width": st.integers(1, 4),
        "value_width": st.integers(1, 5),
    }
)
EVERYTHING = [
    SiteSettings(-0.7),
    SiteSettings(0.5, 0.6),
    SiteSettings(0.5, 0.6, 0.4),
    SiteSettings(-0.5, 0.0, 0.4),
    SiteSettings(math.inf, 0.6, 0.4),
    SiteSettings(math.inf, 0.6),
    SiteSettings(math.inf, 0.0, 0.4),
]
"""Settings of every kind that is not identity."""


class Case(NamedTuple):
    """What an attention function is given at one site, and the site's prior."""

    query: torch.Tensor
    key: torch.Tensor
    value: torch.Tensor
    moments: HeadMoments
    scale: float
    sink: torch.Tensor

    def run(self, site, *, interpolates=True, tensors=None, **options):
        query, key, value = tensors or self[:3]
        parameters = prepare_heads(
            self.moments,
            site,
            self.scale,
            groups=query.shape[1] // key.shape[1],
            dtype=query.dtype,
            interpolates=interpolates,
        )
        return attend_heads(query, key, value, parameters, self.scale, **options)

    def defined(self, site, *, tensors=None, **options):
        return heads_definition.attend(*(tensors or self[:3]), self.moments, site, self.scale, **options)


def random_case(
    seed=0, batch=2, key_heads=2, groups=2, queries=3, keys=5, key_width=4, value_width=3, scale=0.5
):
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    moments = HeadMoments(
        normal(key_heads, key_width),
        normal(key_heads, value_width),
        normal(key_heads, key_width).square(),
        normal(key_heads, value_width, key_width),
        normal(key_heads),
        normal(()).abs().item(),
    )
    return Case(
        2 * normal(batch, key_heads * groups, queries, key_width),
        normal(batch, key_heads, keys, key_width),
        normal(batch, key_heads, keys, value_width),
        moments,
        scale,
        normal(key_heads * groups),
    )


def close(actual, expected, **tolerance):
    torch.testing.assert_close(actual, expected, **(tolerance or EXACT))


@settings(max_examples=300, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    size=sizes,
    site=site_settings,
    scale=st.sampled_from([1.0, 0.5, 0.125]),
    masked=st.sampled_from(["none", "bool", "additive", "padding", "causal", "window"]),
    biased=st.booleans(),
    softcap=st.sampled_from([None, 1.5]),
    has_sink=st.booleans(),
    need_weights=st.booleans(),
    interpolates=st.booleans(),
)
def test_what_is_run_is_the_definition(
    seed, size, site, scale, masked, biased, softcap, has_sink, need_weights, interpolates
):
    if masked in ("causal", "window"):
        size = {**size, "queries": size["keys"]}
    case = random_case(seed, **size, scale=scale)
    batch, heads, queries = case.query.shape[:3]
    keys = case.key.shape[2]
    generator = torch.Generator().manual_seed(seed)
    seen = torch.ones(batch, 1, queries, keys, dtype=torch.bool)
    if masked in ("bool", "additive"):
        seen = torch.rand(seen.shape, generator=generator) < 0.6
    elif masked == "padding":
        seen = (torch.rand(batch, 1, 1, keys, generator=generator) < 0.6).expand(seen.shape)
    elif masked in ("causal", "window"):
        seen = seen.tril()
    if masked == "window":
        seen = seen.triu(-1)
    if not site.has_prior:  # without a prior a query must see something
        seen = seen | (torch.arange(keys) == 0)
    added = torch.zeros(batch, heads, queries, keys, dtype=torch.float64).masked_fill(~seen, -torch.inf)
    options = {"softcap": softcap, "sink": case.sink if has_sink else None}
    given_mask = {}
    if masked == "causal":
        given_mask["is_causal"] = True
    elif masked == "additive":
        given_mask["mask"] = torch.zeros_like(added[:, :1]).masked_fill(~seen, LOWEST)
    elif masked != "none":
        given_mask["mask"] = seen
    if biased:
        bias = torch.randn(1, heads, queries, keys, generator=generator, dtype=torch.float64)
        given_mask["position_bias"], added = bias, added + bias

    output, weights, prior_weight = case.run(
        site, **options, **given_mask, interpolates=interpolates, need_weights=need_weights
    )
    expected, expected_weights, expected_prior_weight = case.defined(
        site, added=added, **options, interpolates=interpolates
    )
    close(output, expected)
    if site.has_prior:
        close(prior_weight, expected_prior_weight)
    else:
        assert prior_weight is None
    if need_weights:
        close(weights, expected_weights)
        if not has_sink:
            close(weights.sum(-1), torch.ones_like(weights[..., 0]))
    else:
        assert weights is None


@pytest.mark.parametrize("site", EVERYTHING)
@pytest.mark.parametrize("softcap", [None, 1.5])
@pytest.mark.parametrize("has_sink", [False, True])
def test_one_query_against_a_long_cache(site, softcap, has_sink):
    case = random_case(queries=1, keys=200)
    options = {"softcap": softcap, "sink": case.sink if has_sink else None}
    output, weights, _ = case.run(site, **options, need_weights=True)
    expected, expected_weights, _ = case.defined(site, **options)
    close(output, expected)
    close(weights, expected_weights)
    close(case.run(site, **options)[0], expected)


@pytest.mark.parametrize("site", EVERYTHING)
@pytest.mark.parametrize("softcap", [None, 1.5])
@pytest.mark.parametrize("is_causal", [False, True])
def test_blocks_of_queries_are_the_whole(site, softcap, is_causal, monkeypatch):
    case = random_case(queries=130, keys=130, key_width=2, value_width=3)
    options = {"softcap": softcap, "sink": case.sink}
    with torch.inference_mode():
        whole, _, prior_weight = case.run(site, **options, is_causal=is_causal)
        monkeypatch.setitem(fused._QUERY_ENTRIES, "cpu", 1)
        monkeypatch.setitem(plain._MAP_ENTRIES, "cpu", 1)
        in_blocks, _, prior_weight_in_blocks = case.run(site, **options, is_causal=is_causal)
    close(in_blocks, whole, rtol=1e-12, atol=1e-12)
    if prior_weight is not None:
        close(prior_weight_in_blocks, prior_weight, rtol=1e-12, atol=1e-12)
    last = [case.query[:, :, -1:], case.key, case.value]  # which sees everything
    close(in_blocks[:, :, -1:], case.defined(site, tensors=last, **options)[0])


@pytest.mark.parametrize("need_weights", [False, True])
@pytest.mark.parametrize("masked", ["bool", "additive"])
@pytest.mark.parametrize("site", [site for site in EVERYTHING if site.has_prior])
def test_a_query_that_sees_no_key_attends_to_the_prior_alone(site, masked, need_weights):
    case = random_case()
    seen = torch.ones(2, 1, 3, 5, dtype=torch.bool)
    seen[0, :, 1] = False
    mask = seen if masked == "bool" else (~seen).double() * LOWEST
    output, weights, prior_weight = case.run(site, mask=mask, need_weights=need_weights)
    assert (prior_weight[0, :, 1] == 1).all()
    assert not need_weights or (weights[0, :, 1, 1:] == 0).all()
    moments = case.moments
    gain = moments.covariance / (moments.key_variance + 1 / case.scale).unsqueeze(1)
    away = case.query[0, :, 1].view(2, 2, 4) - moments.key_mean[:, None]
    close(output[0, :, 1].view(2, 2, 3), moments.value_mean[:, None] + away @ gain.mT)


def test_a_query_that_sees_a_sink_alone_divides_between_prior_and_sink():
    case = random_case()
    nothing = torch.zeros(2, 1, 3, 5, dtype=torch.bool)
    site = SiteSettings(0.5, 0.6, 0.4)
    output, weights, prior_weight = case.run(site, mask=nothing, sink=case.sink, need_weights=True)
    added = torch.full((2, 4, 3, 5), -torch.inf, dtype=torch.float64)
    expected, expected_weights, _ = case.defined(site, added=added, sink=case.sink)
    assert ((prior_weight > 0) & (prior_weight < 1)).all()
    close(output, expected)
    close(weights, expected_weights)
    without_prior, *_ = case.run(SiteSettings(math.inf, 0.6, 0.4), mask=nothing, sink=case.sink)
    assert (without_prior == 0).all()


def test_without_noise_and_shrinkage_tokens_are_those_of_plain_attention():
    case = random_case()
    parameters = prepare_heads(case.moments, SiteSettings(-0.7), case.scale, groups=2, dtype=torch.float64)
    assert parameters.tokens is None
    assert parameters.prior.weight.shape == (4, 4, 3 + 1)  # the only work beside the log-sum-exp
    output, _, prior_weight = case.run(SiteSettings(-0.7))
    key, value = (each.repeat_interleave(2, 1) for each in (case.key, case.value))
    plain = (case.scale * case.query @ key.mT).softmax(-1) @ value
    prior, *_ = case.run(SiteSettings(-1e9))
    close(output, plain.lerp(prior, prior_weight.unsqueeze(-1)))


@given(seed=st.integers(0, 2**31), tau_alpha=st.floats(-5, 5))
@settings(deadline=None)
def test_tokens_that_are_all_the_prior_give_the_output_of_the_prior(seed, tau_alpha):
    case = random_case(seed)
    prior, *_ = case.run(SiteSettings(-1e9))
    output, _, prior_weight = case.run(SiteSettings(tau_alpha, 1.0, 0.0))
    close(output, prior)
    assert (prior_weight < 1).any()


@given(seed=st.integers(0, 2**31), low=st.floats(-10, 10), more=st.floats(0, 10), tau_sigma=st.floats(0, 2))
@settings(deadline=None)
def test_more_tau_alpha_means_less_weight_on_the_prior(seed, low, more, tau_sigma):
    case = random_case(seed)

    def prior_weight(tau_alpha):
        return case.run(SiteSettings(tau_alpha, tau_sigma), sink=case.sink)[2]

    assert (prior_weight(low + more) <= prior_weight(low) + 1e-15).all()


@pytest.mark.parametrize("options", [{}, {"softcap": 1.5}, {"sink": random_case().sink}])
def test_the_shift_that_is_solved_for_is_that_of_tau_alpha(options):
    case, odds = random_case(), []

    def solve(log_odds):
        odds.append(log_odds)
        return -0.7 * case.moments.log_alpha_std

    solved = case.run(SiteSettings(0.0, 0.6, 0.4), solve=solve, **options)
    close(solved[0], case.run(SiteSettings(-0.7, 0.6, 0.4), **options)[0])
    assert odds[0].shape == (2, 4, 3)
    close(torch.sigmoid(odds[0] + 0.7 * case.moments.log_alpha_std), solved[2])


def test_the_share_of_tokens_is_what_noise_and_shrinkage_leave():
    case = random_case()
    parameters = prepare_heads(case.moments, SiteSettings(0.0, 0.6, 0.4), case.scale)
    spread = 0.36 * case.moments.key_variance
    noise_share = (spread / (spread + 1 / case.scale)).mean().item()
    assert parameters.token_share == pytest.approx(0.4 * (1 - noise_share), rel=1e-12)
    assert prepare_heads(case.moments, SiteSettings(0.0), case.scale).token_share == 1


@pytest.mark.parametrize("site", EVERYTHING)
@pytest.mark.parametrize("softcap", [None, 1.5])
def test_gradients_include_the_weight_of_the_prior(site, softcap):
    case = random_case(batch=1, key_heads=1, queries=2, keys=3, key_width=2, value_width=2)

    def run(*tensors):
        return case.run(site, tensors=tensors, softcap=softcap, sink=case.sink)[0]

    assert torch.autograd.gradcheck(run, tuple(each.requires_grad_() for each in case[:3]))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize(("queries", "masked"), [(1, False), (5, False), (5, True)])
@pytest.mark.parametrize("softcap", [None, 20.0])
@pytest.mark.parametrize("site", EVERYTHING)
def test_lower_precision_is_that_of_what_is_given(site, softcap, queries, masked, dtype):
    case = random_case(3, batch=1, queries=queries, keys=20, key_width=8, value_width=6, scale=0.35)
    tensors = [each.to(dtype) for each in case[:3]]
    seen = torch.ones(1, 1, queries, 20, dtype=torch.bool).tril(10) if masked else None
    added = None if seen is None else torch.zeros(1, 4, queries, 20).masked_fill(~seen, -torch.inf)
    case = case._replace(moments=replace(case.moments, log_alpha_mean=case.moments.log_alpha_mean + 5))
    options = {"softcap": softcap, "sink": case.sink}
    output, _, prior_weight = case.run(site, tensors=tensors, mask=seen, **options)
    expected, _, expected_prior_weight = case.defined(site, tensors=tensors, added=added, **options)
    eps = torch.finfo(dtype).eps
    assert output.dtype == dtype
    close(output.double(), expected, rtol=0, atol=8 * eps * expected.abs().max().item())
    if prior_weight is not None:
        assert expected_prior_weight.max() > 0.1
        assert prior_weight.dtype == torch.float32
        close(prior_weight.double(), expected_prior_weight, rtol=0, atol=4 * eps)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("site", [SiteSettings(0.5), SiteSettings(0.5, 0.6)])
def test_one_query_has_a_position_bias_in_half_precision(site, dtype):
    case = random_case(3, batch=1, queries=1, keys=20, key_width=8, value_width=8, scale=0.35)
    tensors = [each.to(dtype) for each in case[:3]]
    bias = torch.randn(1, 4, 1, 20, generator=torch.Generator().manual_seed(0)).to(dtype)
    output, *_ = case.run(site, tensors=tensors, position_bias=bias)
    expected, *_ = case.defined(site, tensors=tensors, added=bias)
    close(output.double(), expected, rtol=0, atol=8 * torch.finfo(dtype).eps * expected.abs().max().item())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_the_bias_of_large_keys_is_kept_in_float32_in_half_precision(dtype):
    case = random_case(7, key_width=64, scale=0.125)
    key = (10 * case.key).to(dtype)
    tokens, exact = (
        prepare_heads(case.moments, SiteSettings(0.0, 0.5, 0.5), case.scale, dtype=to).tokens
        for to in (dtype, torch.float64)
    )
    bias, expected = tokens.bias(key), exact.bias(key.double())
    assert bias.dtype == torch.float32
    assert expected.abs().max() > 100
    close(bias.double(), expected, rtol=1e-6, atol=1e-4)
