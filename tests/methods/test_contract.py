"""What every method promises, on every architecture; most of them in the slow tests."""

import math

import pytest
import torch
from torch.testing import assert_close

import nvreg
from nvreg.diagnostics import recording
from nvreg.errors import UserError
from nvreg.methods import METHODS
from nvreg.models.convert import is_converted
from tests.estimation.test_calibration import sample
from tests.models.architectures import ARCHITECTURES, random_prior
from tests.models.running import EXACT, generate, padded

QUICK = ("marian", "t5", "bert", "gpt2", "llama")
STRONGER = {
    "nv": [{"tau_alpha": 1.0, "tau_sigma": 0.1}, {"tau_alpha": -2.0, "tau_sigma": 0.1}],
    "nv-gaussian": [{"tau_alpha": 1.0}, {"tau_alpha": -2.0}],
    "nv-no-interpolation": [{"tau_sigma": 0.1}, {"tau_sigma": 0.4}],
    "nv-heads": [{"tau_alpha": 1.0, "noise_share": 0.01}, {"tau_alpha": -2.0, "noise_share": 0.01}],
    "nv-heads-no-interpolation": [{"noise_share": 0.01}, {"noise_share": 0.1}],
    "output-temperature": [{"output_temperature": 1.2}, {"output_temperature": 0.5}],
    "mc-dropout": [{"rate": 0.1, "seed": 1}, {"rate": 0.4, "seed": 1}],
    "temperature": [{"temperature": 1.2}, {"temperature": 0.5}],
    "sink": [{"sink_logit": -1.0}, {"sink_logit": 1.0}],
    "weight-noise": [{"scale": 0.1, "seed": 1}, {"scale": 0.3, "seed": 1}],
    "low-rank": [{"keep": 0.9}, {"keep": 0.4}],
    "wise-ft": [{"mix": 0.9}, {"mix": 0.3}],
    "quantise": [{"bits": 8}, {"bits": 4}],
    "prune": [{"share": 0.3}, {"share": 0.6}],
    "layer-skip": [{"skipped": 1}, {"skipped": 2}],
}
"""By method, a setting and one that regularises more."""

MISTAKES = {
    "nv": {"tau_sigma": -1.0},
    "nv-gaussian": {"tau_mu": 2.0},
    "nv-no-interpolation": {"prior_weight": 1.0},
    "nv-heads": {"noise_share": 1.0},
    "nv-heads-no-interpolation": {"noise_share": -0.1},
    "output-temperature": {"output_temperature": 0.0},
    "mc-dropout": {"rate": 1.0},
    "temperature": {"temperature": 0.0},
    "sink": {"sink_logit": math.inf},
    "weight-noise": {"scale": -0.1},
    "low-rank": {"keep": 0.0},
    "wise-ft": {"mix": {"encoder": 0.5}},
    "quantise": {"bits": 9},
    "prune": {"share": 1.1},
    "layer-skip": {"skipped": 0.5},
}

pytestmark = pytest.mark.usefixtures("no_gradients")


@pytest.fixture
def no_gradients():
    with torch.inference_mode(mode=False), torch.no_grad():
        yield


@pytest.fixture(
    params=[
        pytest.param(each, id=each.name, marks=[] if each.name in QUICK else pytest.mark.slow)
        for each in ARCHITECTURES
    ]
)
def architecture(request):
    return request.param


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory):
    """Saves another model of an architecture, once."""

    def save(architecture):
        path = tmp_path_factory.getbasetemp() / architecture.name
        if not path.exists():
            architecture.build(seed=1, dtype=torch.float32).save_pretrained(path)
        return str(path)

    return save


@pytest.fixture(params=METHODS)
def method(request, architecture, pretrained):
    """A method; one that needs the pretrained checkpoint has another model of the architecture."""
    method = METHODS[request.param]
    if method.space == "heads" and architecture.model_type in ("gpt_neo", "gptj"):
        pytest.skip(f"{architecture} is refused in head space")
    if request.param == "mc-dropout" and architecture.model_type in ("nllb-moe", "whisper"):
        pytest.skip(f"{architecture} drops of tokens by expert, or reads no tokens, and is refused")
    return method(
        **{"pretrained": pretrained(architecture)} if "pretrained" in method.options.model_fields else {}
    )


@pytest.fixture
def plain(architecture):
    return architecture.build()


@pytest.fixture
def model(architecture, method):
    """The same model with the method attached."""
    return attached(method, architecture.build(), architecture)


def attached(method, model, architecture):
    method.attach_(model, random_prior(model, space=method.space), sample(architecture))
    return model


def settings_of(method):
    return [method.setting_type.from_dict(values) for values in STRONGER[method.name]]


def strength_of(method, model, architecture, setting):
    method.set_(model, setting)
    with recording(model) as record:
        for batch in sample(architecture):
            model(**batch)
    return method.strength(setting, record)


def test_attached_it_is_the_pretrained_model_bit_for_bit(architecture, method, model, plain):
    for inputs in (architecture.inputs(plain), padded(architecture, "right")[0]):
        assert torch.equal(model(**inputs).logits, plain(**inputs).logits)


def test_identity_and_detaching_are_exact_after_any_settings(architecture, method, model, plain):
    inputs, expected = architecture.inputs(plain), plain(**architecture.inputs(plain)).logits
    for setting in settings_of(method):
        method.set_(model, setting)
        assert not torch.allclose(model(**inputs).logits, expected, atol=1e-6)
    method.set_(model, method.setting_type.identity())
    assert torch.equal(model(**inputs).logits, expected)
    method.set_(model, settings_of(method)[0])
    method.detach_(model)
    assert not is_converted(model)
    assert [type(module) for module in model.modules()] == [type(module) for module in plain.modules()]
    assert all(map(torch.equal, model.state_dict().values(), plain.state_dict().values()))
    assert torch.equal(model(**inputs).logits, expected)


def test_a_setting_is_the_same_whatever_was_set_before(architecture, method, model):
    inputs = architecture.inputs(model)
    one, other = settings_of(method)
    method.set_(model, one)
    expected = model(**inputs).logits
    method.set_(model, other)
    method.set_(model, one)
    assert torch.equal(model(**inputs).logits, expected)
    method.detach_(model)
    attached(method, model, architecture)
    method.set_(model, one)
    assert torch.equal(model(**inputs).logits, expected)


def test_strength_is_0_at_identity_and_grows(architecture, method, model):
    weak, strong = settings_of(method)
    strengths = [
        strength_of(method, model, architecture, setting)
        for setting in (method.setting_type.identity(), weak, strong)
    ]
    assert strengths[0] == 0
    assert 0 < strengths[1] < strengths[2] <= 1


def test_it_generates_with_a_cache_what_it_does_without(architecture, method, model):
    if not architecture.can_generate:
        pytest.skip(f"{architecture} does not generate")
    method.set_(model, settings_of(method)[1])
    inputs = architecture.inputs(model)
    if not method.generates:
        with pytest.raises(UserError, match="generates"):
            generate(model, inputs)
        return
    assert generate(model, inputs) == generate(model, inputs, use_cache=False)


def test_a_padded_batch_equals_its_rows_alone(architecture, method, model):
    method.set_(model, settings_of(method)[1])
    batch, alone = padded(architecture, "right")
    logits = model(**batch).logits
    for row, single in enumerate(alone):
        expected = model(**single).logits[0]
        assert_close(logits[row, : len(expected)], expected, **EXACT)


@pytest.mark.parametrize("name", METHODS)
def test_values_that_cannot_be_are_refused(name):
    values = MISTAKES[name]
    with pytest.raises(ValueError, match=next(iter(values))):
        METHODS[name].setting_type.from_dict(values)
    with pytest.raises(ValueError, match="expected one of "):
        METHODS[name].setting_type.from_dict({"tau_omega": 1.0})


def test_roles_that_the_model_has_not_are_refused(architecture, method, model):
    (name, rule), *_ = method.setting_type.parameters.items()
    missing = sorted({"encoder", "cross", "decoder"} - {site.role for site in nvreg.sites(model)})
    if not missing or not rule.by_role:
        pytest.skip("any role will do")
    with pytest.raises(ValueError, match=name):
        method.set_(model, method.setting_type.from_dict({name: {missing[0]: 0.5}}))
