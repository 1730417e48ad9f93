"""The relative change of attention outputs, of any method."""

import pytest
import torch

import nvreg
from nvreg.methods import METHODS
from nvreg.methods.change import attention_change
from nvreg.models.convert import current_settings
from tests.estimation.test_calibration import one_by_one, sample
from tests.models.architectures import random_prior
from tests.models.running import of

of_every_kind = of("marian", "t5", "bert", "gpt2", "llama")


def attached(name, model):
    method = METHODS[name]()
    method.attach_(model, random_prior(model), [])
    return method


@of_every_kind
def test_it_is_0_at_identity_and_grows_with_the_scale_of_noise(architecture):
    model = architecture.build()
    method = attached("weight-noise", model)
    changes = [
        attention_change(model, method, method.setting_type(scale=scale), sample(architecture))
        for scale in (0.0, 1e-4, 2e-4)
    ]
    assert list(changes[0]) == nvreg.sites(model)
    for site, change in changes[0].items():
        assert change == 0
        assert changes[1][site] > 1e-6
        assert changes[2][site] == pytest.approx(2 * changes[1][site], rel=1e-2)


@of_every_kind
def test_every_site_has_its_pretrained_inputs(architecture):
    model = architecture.build()
    method = attached("nv", model)
    together = attention_change(
        model, method, method.setting_type(tau_alpha=0.0, tau_sigma=0.3), sample(architecture)
    )
    last = nvreg.sites(model)[-1]
    values = [float("inf")] * last.layer + [0.0]
    alone = method.setting_type(
        tau_alpha={last.role: values}, tau_sigma={last.role: [0.0] * last.layer + [0.3]}
    )
    changes = attention_change(model, method, alone, sample(architecture))
    assert changes[last] == pytest.approx(together[last])
    assert all(change == 0 for site, change in changes.items() if site != last)
    assert current_settings(model).is_identity


@of("marian", "bert")
def test_the_setting_that_the_model_is_at_changes_nothing(architecture):
    model = architecture.build()
    method = attached("temperature", model)
    asked = method.setting_type(temperature=2.0)
    changes = attention_change(model, method, asked, sample(architecture))
    method.set_(model, asked)
    assert attention_change(model, method, asked, sample(architecture)) == changes
    assert min(changes.values()) > 0


@of("marian", "bert")
def test_batches_and_padding_change_nothing(architecture):
    model = architecture.build()
    method = attached("temperature", model)
    batches = sample(architecture)
    whole = attention_change(model, method, method.setting_type(temperature=2.0), batches)
    assert attention_change(
        model, method, method.setting_type(temperature=2.0), one_by_one(batches)
    ) == pytest.approx(whole)


@of("bert")
def test_it_is_a_ratio_of_norms(architecture):
    model = architecture.build()
    batch = architecture.inputs(model)
    outputs = []
    first = model.bert.encoder.layer[0].attention.self
    hook = first.register_forward_hook(lambda *call: outputs.append(call[-1][0]))
    method = attached("sink", model)
    with torch.no_grad():
        model(**batch)
        method.set_(model, method.setting_type(sink_logit=1.0))
        model(**batch)
    hook.remove()
    method.set_(model, method.setting_type.identity())
    expected = (outputs[1] - outputs[0]).norm() / outputs[0].norm()
    change = attention_change(model, method, method.setting_type(sink_logit=1.0), [batch])
    assert change[nvreg.sites(model)[0]] == pytest.approx(expected.item())


@of("albert")
def test_every_run_of_a_layer_changes_by_itself(architecture):
    model = architecture.build()
    method = attached("nv-heads", model)
    setting = method.setting_type(tau_alpha={"encoder": [*[float("inf")] * 5, 0.5, *[float("inf")] * 2]})
    changes = attention_change(model, method, setting, sample(architecture))
    assert [site.layer for site, change in changes.items() if change > 0] == [5]
