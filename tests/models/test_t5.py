"""What only T5 has: positions that are relative, and a bias that one layer hands to the next."""

import copy

import pytest
import torch
from torch.testing import assert_close

import nvreg
from tests.models.architectures import ARCHITECTURES
from tests.models.running import EXACT, converted, padded

pytestmark = pytest.mark.usefixtures("no_gradients")
T5 = {each.name: each for each in ARCHITECTURES if each.model_type in ("t5", "mt5", "umt5")}


def results(model, inputs):
    """Return what every attention module returns, by site."""
    found, hooks = {}, []
    for site in nvreg.sites(model):
        module = model.base_model.get_submodule(site.name)
        hooks.append(
            module.register_forward_hook(lambda *args, name=site.name: found.update({name: args[-1]}))
        )
    model(**inputs)
    for hook in hooks:
        hook.remove()
    return found


@pytest.mark.parametrize("name", ["t5", "t5 encoder", "mt5"])
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_the_position_bias_is_handed_on_as_the_pretrained_module_does(name, attention):
    plain = T5[name].build(attention=attention)
    inputs, _ = padded(T5[name], "right")
    expected = results(plain, inputs)
    for site, result in results(converted(copy.deepcopy(plain)), inputs).items():
        output, position_bias, weights = result
        assert output.shape == expected[site][0].shape
        assert torch.equal(position_bias, expected[site][1])
        assert (weights is None) == (expected[site][2] is None)


@pytest.mark.parametrize("name", list(T5))
def test_a_batch_padded_on_the_left_equals_its_rows_alone(name):
    model = converted(T5[name].build())
    batch, alone = padded(T5[name], "left")
    logits = model(**batch).logits
    for row, single in enumerate(alone):
        expected = model(**single).logits[0]
        assert_close(logits[row, -len(expected) :], expected, **EXACT)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_a_query_that_sees_no_key_attends_to_the_prior_alone(dtype, attention):
    model = T5["t5"].build(attention=attention, dtype=dtype)
    converted(model, nvreg.Settings(tau_alpha={"decoder": 1.0}, tau_sigma={"decoder": 0.3}))
    inputs = T5["t5"].inputs(model)
    mask = torch.ones_like(inputs["decoder_input_ids"])
    mask[0, :2] = 0
    gates = []
    for site in nvreg.sites(model):
        if site.role == "decoder":
            state = model.base_model.get_submodule(site.name).nv
            state.observer = lambda site, prior_weight, share: gates.append(prior_weight)
    outputs = model(**inputs, decoder_attention_mask=mask)
    assert outputs.logits.isfinite().all()
    assert gates
    for prior_weight in gates:
        assert (prior_weight[0, :, :2] == 1).all()
        assert (prior_weight[0, :, 2:] < 1).all()
