"""Temperature and sink against other ways to compute them."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from nvreg.attention.fused import Prepared, QueryMap, attend
from nvreg.diagnostics import recording
from nvreg.methods import METHODS
from tests.estimation.test_calibration import sample
from tests.models.architectures import random_prior
from tests.models.running import EXACT, of, padded


@pytest.fixture(autouse=True)
def no_gradients():
    with torch.no_grad():
        yield


def attached(name, model, **values):
    method = METHODS[name]()
    method.attach_(model, random_prior(model), [])
    method.set_(model, method.setting_type(**values))
    return model


def scale_scores_(model, factor):
    """Multiply, by hand, what is multiplied with keys, and what is added to the product."""
    for name, module in model.named_modules():
        if name.endswith((".q", ".q_proj", ".query")):
            module.weight.mul_(factor)
            if module.bias is not None:
                module.bias.mul_(factor)
        if name.endswith("relative_attention_bias"):
            module.weight.mul_(factor)
    return model


@of("bart", "t5", "umt5", "bert", "llama", "llama yarn", "opt")
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("temperature", [0.25, 3.0])
def test_temperature_divides_queries_and_position_biases(architecture, attention, temperature):
    model = attached("temperature", architecture.build(attention=attention), temperature=temperature)
    expected = scale_scores_(architecture.build(), 1 / temperature)
    for inputs in (architecture.inputs(model), padded(architecture, "right")[0]):
        assert_close(model(**inputs).logits, expected(**inputs).logits, **EXACT)


@of("gpt2", "phi3 sliding", "gpt_neox", "gptj", "gpt_neo", "gpt_bigcode")
def test_at_a_high_temperature_every_visible_key_has_the_same_weight(architecture):
    model = architecture.build(attention="eager")
    attached("temperature", model, temperature=1e9)
    inputs = architecture.inputs(model)
    for weights in model(**inputs, output_attentions=True).attentions:
        seen = weights[..., 1:] > 1e-12
        assert (weights[..., 0] == 0).all()
        assert_close(
            weights[..., 1:], seen / seen.sum(-1, keepdim=True), atol=1e-6, rtol=0, check_dtype=False
        )
        assert (seen.sum(-1)[..., 1] == 2).all()


@of("bart")
def test_temperature_by_role_and_layer(architecture):
    model = attached("temperature", architecture.build(), temperature={"cross": [1.0, 2.0, 1.0]})
    expected = architecture.build()
    scale_scores_(expected.model.decoder.layers[1].encoder_attn, 0.5)
    projection = expected.model.decoder.layers[1].encoder_attn.q_proj
    projection.weight.mul_(0.5)
    projection.bias.mul_(0.5)
    inputs = architecture.inputs(model)
    assert_close(model(**inputs).logits, expected(**inputs).logits, **EXACT)


def test_the_sink_is_one_more_key_without_a_value():
    generator = torch.Generator().manual_seed(0)
    query, key, value = (torch.randn(2, 3, 4, 8, generator=generator).double() for _ in range(3))
    nothing = torch.zeros(3, 8, 9).double()
    parameters = Prepared(prior=QueryMap(nothing, F.pad(nothing[:, :1, 1:], (0, 1), value=0.5)))
    output, weights, prior_weight = attend(query, key, value, parameters, 0.5, need_weights=True)
    logits = torch.cat([torch.full((2, 3, 4, 1), 0.5).double(), 0.5 * query @ key.transpose(-1, -2)], dim=-1)
    expected = logits.softmax(-1)
    assert_close(weights, expected, **EXACT)
    assert_close(prior_weight, expected[..., 0], **EXACT)
    assert_close(output, expected[..., 1:] @ value, **EXACT)


@of("marian", "llama", "t5")
def test_the_mean_weight_of_the_sink_is_its_strength(architecture):
    model = attached("sink", architecture.build(attention="eager"), sink_logit=0.0)
    batch = sample(architecture)[0]
    with recording(model) as record:
        outputs = model(**batch, output_attentions=True)
    maps = [attention for name in outputs if name.endswith("attentions") for attention in outputs[name]]
    assert all((attention[..., 0] > 0).all() for attention in maps)
    strength = METHODS["sink"]().strength(METHODS["sink"].setting_type(sink_logit=0.0), record)
    assert 0 < strength < max(attention[..., 0].max() for attention in maps)


@of("marian")
def test_the_strength_of_temperature_is_symmetric_and_a_mean_over_sites(architecture):
    model = architecture.build()
    method = METHODS["temperature"]()
    with recording(model) as record:
        model(**architecture.inputs(model))

    def strength(value):
        return method.strength(method.setting_type(temperature=value), record)

    assert strength(2.0) == pytest.approx(strength(0.5)) == pytest.approx(math.log(2))
    assert strength({"cross": [4.0, 1.0, 1.0]}) == pytest.approx(math.log(4) / 8)
