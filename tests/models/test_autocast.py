"""Converted models under autocast: linear layers in half precision, the prior's share in float32."""

import pytest
import torch

from nvreg.attention.settings import Settings
from tests.models.running import converted, generate, of, of_every_layout

pytestmark = pytest.mark.usefixtures("no_gradients")
SETTINGS = Settings(tau_alpha=0.5, tau_sigma=0.4, tau_mu=0.8)


def halved():
    return torch.autocast("cpu", torch.bfloat16)


def error(logits, exact):
    return float((logits.float() - exact).abs().mean() / exact.std())


@of_every_layout
def test_it_rounds_no_more_than_a_model_in_half_precision(architecture):
    """How far both round differs by half from one random model to the next, so several of them decide."""
    mixed, half = 0.0, 0.0
    for seed in range(6):
        exact, rounded = (
            converted(architecture.build(seed=seed, dtype=dtype), SETTINGS)
            for dtype in (torch.float32, torch.bfloat16)
        )
        inputs = architecture.inputs(exact)
        logits = exact(**inputs).logits
        with halved():
            mixed += error(exact(**inputs).logits, logits)
        half += error(rounded(**inputs).logits, logits)
    assert mixed < 1.05 * half


@of("bert", "bart", "llama")
def test_the_prior_weighs_what_it_weighs(architecture):
    """A bias in the hundreds would be off by whole units in bfloat16."""
    model = converted(architecture.build(dtype=torch.float32), SETTINGS)
    site = next(module for module in model.modules() if hasattr(module, "nv"))
    z = 30 * torch.randn(2, 4, site.nv.site.width, generator=torch.Generator().manual_seed(0))
    model(**architecture.inputs(model))
    _, exact = site.nv.token_components(z)
    with halved():
        _, bias = site.nv.token_components(z)
    assert exact.abs().max() > 100
    assert torch.equal(bias, exact)


@of("bart", "t5", "gpt2", "llama")
def test_it_generates_with_a_cache_what_it_generates_without(architecture):
    """Both round, each in its own way: with this seed, the best tokens are further apart than that."""
    model = converted(architecture.build(seed=3, dtype=torch.float32), SETTINGS)
    inputs = architecture.inputs(model)
    with halved():
        assert generate(model, inputs) == generate(model, inputs, use_cache=False)


@of_every_layout
def test_what_a_setting_needs_is_made_without_it(architecture):
    exact, mixed = (converted(architecture.build(dtype=torch.float32)) for _ in range(2))
    inputs = architecture.inputs(exact)
    exact(**inputs)
    with halved():
        mixed.load_state_dict(mixed.state_dict())  # everything is made anew by the next forward
        mixed(**inputs)
    states = [[module.nv for module in model.modules() if hasattr(module, "nv")] for model in (exact, mixed)]
    for state, other in zip(*states, strict=True):
        for one, another in zip(_tensors(state._prepared), _tensors(other._prepared), strict=True):
            assert torch.equal(one, another)


def _tensors(prepared):
    if isinstance(prepared, tuple):
        return [tensor for each in prepared for tensor in _tensors(each)]
    return [prepared] if isinstance(prepared, torch.Tensor) else []
