"""What Transformers' attention interface is told: which implementation runs, and whether it is causal."""

import pytest
import torch

import nvreg
from nvreg.models.cache import CACHES, given_cache
from nvreg.models.registry import site_modules
from tests.models.architectures import random_prior
from tests.models.running import converted, generate, of, padded

pytestmark = pytest.mark.usefixtures("no_gradients")

ANOTHER = r"expected attn_implementation 'sdpa' or 'eager', got 'flex_attention'; "


@of("llama")
def test_another_implementation_is_refused(architecture, plain):
    plain.config._attn_implementation = "flex_attention"
    with pytest.raises(nvreg.UserError, match=ANOTHER):
        nvreg.convert_(plain, random_prior(plain))


@of("bert to gpt2")
def test_another_implementation_in_one_half_is_refused(architecture, plain):
    plain.decoder.config._attn_implementation = "flex_attention"
    with pytest.raises(nvreg.UserError, match=ANOTHER):
        nvreg.convert_(plain, random_prior(plain))


@of("bart", "t5", "umt5", "bert", "distilbert", "opt", "llama", "gpt_neox")
def test_another_implementation_after_conversion_is_refused_when_it_runs(architecture, plain):
    model = converted(plain, nvreg.Settings(tau_alpha=0.5))
    inputs = architecture.inputs(model)
    model(**inputs)
    model.set_attn_implementation("flex_attention")
    with pytest.raises(nvreg.UserError, match=ANOTHER):
        model(**inputs)


@of("llama", "qwen3")
def test_the_paged_cache_of_continuous_batching_is_refused(architecture, plain):
    model = converted(plain, nvreg.Settings(tau_alpha=0.5))
    module = next(iter(site_modules(model).values()))
    with pytest.raises(nvreg.UserError, match="paged one of continuous batching"):
        module(torch.zeros(1, 2, 8), cache=object())


@pytest.mark.parametrize("name", CACHES)
@of("bart", "t5", "gpt_neo", "llama")
def test_a_cache_is_taken_by_every_name_that_versions_of_transformers_have_for_it(architecture, plain, name):
    def rename(module, args, kwargs):
        others = {key: value for key, value in kwargs.items() if key not in CACHES}
        return args, others | {name: given_cache(kwargs)}

    model = converted(plain, nvreg.Settings(tau_alpha=0.5, tau_sigma=0.3))
    for module in site_modules(model).values():
        module.register_forward_pre_hook(rename, with_kwargs=True)
    batch, _ = padded(architecture, "left")
    assert generate(model, batch) == generate(model, batch, use_cache=False)


def like_the_pretrained(architecture, model, inputs, **options):
    """Whether without the prior's weight the logits of real tokens are those of the pretrained model."""
    expected = model(**inputs, **options).logits
    logits = converted(model, nvreg.Settings(tau_alpha=1e4))(**inputs, **options).logits
    nvreg.revert_(model)
    if "attention_mask" in inputs and not architecture.is_encoder_decoder:
        real = inputs["attention_mask"].bool()
        logits, expected = logits[real], expected[real]
    return torch.allclose(logits, expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_not_causal_is_what_it_is_in_the_pretrained_model(architecture, attention):
    model = architecture.build(attention=attention, dtype=torch.float32)
    inputs, (padded_inputs, _) = architecture.inputs(model), padded(architecture, "right")
    padded_inputs = {
        name: each.to(model.dtype) if each.is_floating_point() else each
        for name, each in padded_inputs.items()
    }
    causal = model(**inputs).logits
    assert like_the_pretrained(architecture, model, inputs, is_causal=False)
    for part in model.modules():
        if hasattr(part, "config"):
            part.config.is_causal = False
    assert like_the_pretrained(architecture, model, inputs)
    assert like_the_pretrained(architecture, model, padded_inputs)
    if {site.role for site in nvreg.sites(model)} == {"decoder"} and attention == "eager":
        is_always_causal = architecture.model_type == "gpt_neo"
        assert torch.allclose(model(**inputs).logits, causal, atol=0.1) == is_always_causal


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@of("llama", "bert", "distilbert", "t5 encoder")
def test_causal_is_what_it_is_in_the_pretrained_model(architecture, attention):
    model = architecture.build(attention=attention, dtype=torch.float32)
    assert like_the_pretrained(architecture, model, architecture.inputs(model), is_causal=True)
