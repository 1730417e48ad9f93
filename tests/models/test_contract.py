"""One contract, every architecture: what conversion promises."""

import copy
import pickle
from dataclasses import replace

import pytest
import torch
import transformers
from torch.testing import assert_close

import nvreg
from nvreg.attention.settings import Settings
from nvreg.models.convert import current_settings, is_converted
from nvreg.models.site import Runs, layers_of
from tests.models.architectures import ARCHITECTURES, random_prior, random_settings, sites_of
from tests.models.running import EXACT, converted, generate, padded, run_definition_

IN_BOTH_SPACES = True

pytestmark = pytest.mark.usefixtures("no_gradients")


# --- identity -------------------------------------------------------------------------------------


def test_identity_is_bit_identical(architecture, plain):
    model = converted(copy.deepcopy(plain), Settings.identity())
    batch, _ = padded(architecture, "right")
    for inputs in (architecture.inputs(plain), batch):
        # Gemma 2 makes NaN of a padded query that sees nothing
        assert_close(model(**inputs).logits, plain(**inputs).logits, rtol=0, atol=0, equal_nan=True)
    if architecture.can_generate:
        assert generate(model, batch) == generate(plain, batch)


def test_identity_searches_with_beams_bit_identically(architecture, plain, generating):
    model = converted(copy.deepcopy(plain), Settings.identity())
    batch, _ = padded(architecture, "right")
    assert generate(model, batch, num_beams=3) == generate(plain, batch, num_beams=3)


def test_revert_is_bit_identical_after_any_settings(architecture, plain):
    model = copy.deepcopy(plain)
    inputs = architecture.inputs(plain)
    classes = [type(module) for module in model.modules()]
    converted(model)
    for tau_sigma in (0.1, 0.7, 0.0):
        nvreg.set_settings_(model, Settings(tau_alpha=1.0, tau_sigma=tau_sigma))
        assert not torch.equal(model(**inputs).logits, plain(**inputs).logits)
    nvreg.set_settings_(model, Settings.identity())
    assert torch.equal(model(**inputs).logits, plain(**inputs).logits)
    nvreg.revert_(model)
    assert [type(module) for module in model.modules()] == classes
    assert not is_converted(model)
    assert torch.equal(model(**inputs).logits, plain(**inputs).logits)
    assert all(map(torch.equal, model.state_dict().values(), plain.state_dict().values()))


def test_changing_settings_leaves_no_trace(architecture, model):
    inputs = architecture.inputs(model)
    settings = random_settings(model)
    first = model(**inputs).logits
    for tau_sigma in (0.9, 0.0, 0.3):
        nvreg.set_settings_(model, Settings(tau_sigma=tau_sigma, tau_mu=0.5))
        model(**inputs)
    assert torch.equal(nvreg.set_settings_(model, settings)(**inputs).logits, first)


# --- the method -----------------------------------------------------------------------------------


def recorded_outputs(model):
    """Return, by site, what attention puts out at the next forward."""
    modules = {site: model.base_model.get_submodule(site.path) for site in sites_of(model)}
    outputs, runs = {}, Runs(modules)
    for module in set(modules.values()):
        module.register_forward_hook(
            lambda module, args, output: outputs.update({runs.next_site(module): output[0]})
        )
    return outputs


def test_it_is_the_definition(architecture):
    check_definition(architecture, "sdpa")


def test_it_is_the_definition_eagerly(architecture):
    check_definition(architecture, "eager")


def check_definition(architecture, attention):
    model = architecture.build(attention=attention)
    prior, settings = random_prior(model), random_settings(model)
    defined = run_definition_(copy.deepcopy(model), prior, settings)
    nvreg.convert_(model, prior, settings)
    sides = ["right", "left"] if "encoder" in {site.role for site in sites_of(model)} else ["right"]
    outputs, expected_outputs = recorded_outputs(model), recorded_outputs(defined)
    for inputs in (architecture.inputs(model), *(padded(architecture, side)[0] for side in sides)):
        logits, expected = model(**inputs).logits, defined(**inputs).logits
        if "attention_mask" in inputs and not architecture.is_encoder_decoder:
            real = inputs["attention_mask"].bool()
            logits, expected = logits[real], expected[real]
        elif "attention_mask" not in inputs:  # norms in float32 would hide small errors from the logits
            assert len(outputs) == len(sites_of(model))
            for site, output in outputs.items():
                assert_close(output, expected_outputs[site], **EXACT)
        assert_close(logits, expected, **EXACT)


@pytest.mark.parametrize("kind", ["dynamic", "longrope"])
def test_it_is_the_definition_beyond_the_original_length(kind):
    parameters = {
        "rope_type": kind,
        "rope_theta": 100.0,
        "original_max_position_embeddings": 4,
        "factor": 2.0,
    }
    if kind == "longrope":
        parameters |= {"short_factor": [1.0, 1.5], "long_factor": [2.0, 3.0]}
    (llama,) = (each for each in ARCHITECTURES if each.name == "llama")
    architecture = replace(
        llama, config={**llama.config, "max_position_embeddings": 4, "rope_parameters": parameters}
    )
    model = architecture.build()
    prior, settings, inputs = random_prior(model), random_settings(model), architecture.inputs(model)
    defined = run_definition_(copy.deepcopy(model), prior, settings)
    short = {"input_ids": inputs["input_ids"][:, :3]}
    nvreg.convert_(model, prior, settings)
    for each in (inputs, short):
        assert_close(model(**each).logits, defined(**each).logits, **EXACT)


def test_a_prior_without_weight_leaves_the_pretrained_model(architecture, plain):
    inputs = architecture.inputs(plain)
    expected = plain(**inputs).logits
    logits = converted(plain, Settings(tau_alpha=1e4))(**inputs).logits
    assert_close(logits, expected, **{**EXACT, "atol": 1e-4} if architecture.attends_in_float32 else EXACT)


def test_layers_at_identity_mix_with_others(architecture, plain):
    prior, layers = random_prior(plain), layers_of(sites_of(plain))
    inputs = architecture.inputs(plain)
    for first in (0, 1):
        values = {
            role: [0.5 if layer % 2 == first else float("inf") for layer in range(count)]
            for role, count in layers.items()
        }
        settings = Settings(tau_alpha=values)
        defined = run_definition_(copy.deepcopy(plain), prior, settings)
        model = nvreg.convert_(copy.deepcopy(plain), prior, settings)
        exactness = {**EXACT, "atol": 1e-4} if architecture.attends_in_float32 else EXACT
        assert_close(model(**inputs).logits, defined(**inputs).logits, **exactness)


@pytest.mark.parametrize("role", ["encoder", "cross", "decoder"])
@pytest.mark.parametrize("parameter", ["tau_alpha", "tau_sigma", "tau_mu"])
def test_every_parameter_acts_in_every_role(architecture, plain, role, parameter):
    if role not in {site.role for site in sites_of(plain)}:
        pytest.skip(f"{architecture} has no {role} attention")
    inputs = architecture.inputs(plain)
    value = {"tau_alpha": 0.0, "tau_sigma": 0.5, "tau_mu": 0.5}[parameter]
    expected = plain(**inputs).logits
    logits = converted(plain, Settings(**{parameter: {role: value}}))(**inputs).logits
    assert not torch.allclose(logits, expected, atol=1e-3)


def test_attention_maps_sum_to_one_with_the_prior_first(architecture):
    model = converted(architecture.build(attention="eager"), Settings(tau_alpha=0.5, tau_sigma=0.3))
    inputs = architecture.inputs(model)
    outputs = model(**inputs, output_attentions=True)
    keys = 6 if "input_features" in inputs else inputs["input_ids"].shape[1]
    maps = [
        (attention, length)
        for name, length in (("attentions", keys), ("encoder_attentions", keys), ("cross_attentions", keys))
        for attention in outputs.get(name) or ()
    ]
    if architecture.is_encoder_decoder:
        maps += [(attention, 5) for attention in outputs.decoder_attentions]
    assert len(maps) == len(sites_of(model))
    for attention, length in maps:
        assert attention.shape[-1] == 1 + length
        if architecture.model_type == "gpt_oss":  # its sink has the rest
            assert (attention.sum(-1) < 1).all()
        else:
            assert_close(attention.sum(-1), torch.ones_like(attention[..., 0]))
        assert (attention[..., 0] > 0).all()


def test_a_padded_batch_equals_its_rows_alone(architecture, model):
    batch, alone = padded(architecture, "right")
    logits = model(**batch).logits
    for row, single in enumerate(alone):
        expected = model(**single).logits[0]
        exactness = {"rtol": 1e-4, "atol": 1e-4} if architecture.mixes_in_float32 else EXACT
        assert_close(logits[row, : len(expected)], expected, **exactness)


# --- life of a converted model --------------------------------------------------------------------


def test_saved_and_loaded_it_is_the_same_and_transformers_sees_the_pretrained_one(
    architecture, model, tmp_path
):
    inputs = architecture.inputs(model)
    nvreg.save_pretrained(model, tmp_path)
    again = nvreg.from_pretrained(tmp_path, dtype=torch.float64)
    assert current_settings(again) == current_settings(model)
    unaware = getattr(transformers, architecture.model_class).from_pretrained(tmp_path, dtype=torch.float64)
    plain = architecture.build()
    for loaded, saved in ((again, model), (unaware, plain)):
        loaded.config._experts_implementation = "batched_mm"  # which has float64
        assert all(map(torch.equal, loaded.state_dict().values(), saved.state_dict().values()))
        assert_close(loaded.eval()(**inputs).logits, saved(**inputs).logits, **EXACT)


def test_a_copy_is_independent(architecture, model):
    inputs = architecture.inputs(model)
    logits = model(**inputs).logits
    other = copy.deepcopy(model)
    assert torch.equal(other(**inputs).logits, logits)
    nvreg.set_settings_(other, Settings(tau_sigma=0.9))
    assert torch.equal(model(**inputs).logits, logits)


def test_pickled_it_is_the_same(architecture, model):
    inputs = architecture.inputs(model)
    other = pickle.loads(pickle.dumps(model))
    assert torch.equal(other(**inputs).logits, model(**inputs).logits)
    assert [type(module) for module in other.modules()] == [type(module) for module in model.modules()]
    assert current_settings(other) == current_settings(model)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_it_follows_the_model_to_another_dtype(architecture, model, dtype):
    inputs = architecture.inputs(model)
    expected = model(**inputs).logits
    tolerance = {torch.float32: 1e-5, torch.float16: 0.03, torch.bfloat16: 0.15}[dtype]
    inputs = {name: each.to(dtype) if each.is_floating_point() else each for name, each in inputs.items()}
    logits = model.to(dtype)(**inputs).logits
    assert logits.dtype == dtype
    assert (logits.double() - expected).abs().mean() < tolerance * expected.abs().mean()
    fresh = converted(architecture.build(dtype=dtype))
    assert torch.equal(fresh(**inputs).logits, logits)
    if architecture.can_generate and architecture.has_static_cache:
        static = {"cache_implementation": "static", "disable_compile": True}
        assert generate(fresh, inputs) == generate(fresh, inputs, **static)


def test_new_weights_are_noticed(architecture, model):
    inputs = architecture.inputs(model)
    model(**inputs)
    other = architecture.build(seed=1)
    model.load_state_dict(other.state_dict())
    assert torch.equal(model(**inputs).logits, converted(other)(**inputs).logits)


def test_a_write_through_data_is_noticed_by_a_setting(architecture, model):
    inputs = architecture.inputs(model)
    settings = random_settings(model)
    model(**inputs)
    other = architecture.build(seed=1)
    for weight, new in zip(model.parameters(), other.parameters(), strict=True):
        weight.data.copy_(new)
    nvreg.set_settings_(model, settings)
    assert torch.equal(model(**inputs).logits, converted(other)(**inputs).logits)


def test_training_mode_is_refused(architecture, model):
    with pytest.raises(RuntimeError, match="evaluated, not trained"):
        model.train()(**architecture.inputs(model))
