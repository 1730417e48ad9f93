"""The one object that a converted model carries."""

import copy
import pickle
import threading

import pytest
import torch

import nvreg
from nvreg.attention.settings import Settings
from nvreg.models import registry
from nvreg.models.conversion import conversion_of
from nvreg.models.convert import current_settings
from tests.models.architectures import random_ids, random_prior
from tests.models.running import converted, of

pytestmark = [pytest.mark.usefixtures("no_gradients")]


@pytest.fixture
def walks(monkeypatch):
    """Every module that is asked whether it is a site."""
    asked, adapter_of = [], registry._adapter_of

    def note(module, name, adapters):
        asked.append(name)
        return adapter_of(module, name, adapters)

    monkeypatch.setattr(registry, "_adapter_of", note)
    return asked


@of("bart")
def test_conversion_walks_the_modules_once_and_a_setting_never(architecture, plain, walks):
    prior, count = random_prior(plain), len(list(plain.base_model.modules()))
    walks.clear()
    nvreg.convert_(plain, prior, Settings(tau_alpha=1.0))
    assert len(walks) == count
    for tau_sigma in (0.1, 0.2, 0.0):
        nvreg.set_settings_(plain, Settings(tau_sigma=tau_sigma))
        current_settings(plain)
        nvreg.sites(plain)
    nvreg.calibrate(
        plain, prior, [{**architecture.inputs(plain), "labels": random_ids(3, 5)}], prior_weight=0.1
    )
    nvreg.revert_(plain)
    assert len(walks) == count


@of("bart")
def test_heads_of_a_body_share_it_and_copies_have_their_own(architecture, model):
    conversion = conversion_of(model)
    assert conversion is conversion_of(model.base_model)
    assert list(conversion.sites) == nvreg.sites(model)
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        copied = conversion_of(other)
        assert list(copied.sites) == list(conversion.sites)
        modules = set(other.modules())
        assert all(module in modules for module in copied.sites.values())
        assert copied.prior.fingerprint == conversion.prior.fingerprint
        nvreg.revert_(other)
        assert conversion_of(other) is None
    assert conversion_of(model) is conversion


@of("bart")
def test_a_copied_layer_takes_nothing_of_the_model_with_it(architecture, model):
    assert b"decoder.layers" in pickle.dumps(model)
    assert b"decoder.layers" not in pickle.dumps(model.base_model.encoder.layers[0])


@of("llama")
def test_settings_of_a_model_that_is_not_converted(architecture, plain):
    for ask in (lambda: nvreg.set_settings_(plain, Settings()), lambda: current_settings(plain)):
        with pytest.raises(ValueError, match="expected a converted model"):
            ask()
    assert nvreg.revert_(plain) is plain


@of("albert")
def test_a_layer_that_runs_several_times_has_a_site_for_every_run(architecture, plain):
    paths = [site.path for site in nvreg.sites(plain, "heads")]
    first, second = (
        [f"encoder.albert_layer_groups.{group}.albert_layers.{n}.attention" for n in (0, 1)]
        for group in (0, 1)
    )
    assert paths == first * 2 + second * 2
    assert [site.layer for site in nvreg.sites(plain, "heads")] == list(range(8))
    assert [site.name[-2:] for site in nvreg.sites(plain, "heads")] == ["#0", "#0", "#1", "#1"] * 2
    inputs = architecture.inputs(plain)
    pretrained = plain(**inputs).logits
    model = converted(plain, Settings(tau_alpha={"encoder": [*[float("inf")] * 6, 0.5, float("inf")]}))
    changed = model(**inputs).logits
    assert not torch.allclose(changed, pretrained)
    nvreg.set_settings_(
        model, Settings(tau_alpha={"encoder": [*[float("inf")] * 4, 0.5, *[float("inf")] * 3]})
    )
    assert not torch.allclose(model(**inputs).logits, changed)


@of("albert", "albert heads")
def test_layers_that_run_several_times_do_so_in_every_thread_by_itself(architecture, model):
    inputs, logits = architecture.inputs(model), []
    expected = model(**inputs).logits

    def run_whole():
        with torch.no_grad():
            logits.append(model(**inputs).logits)

    def in_between(*_):
        hook.remove()
        other = threading.Thread(target=run_whole)
        other.start()
        other.join()

    layer = model.albert.encoder.albert_layer_groups[0].albert_layers[1]
    hook = layer.ffn.register_forward_pre_hook(in_between)
    run_whole()
    assert [torch.equal(each, expected) for each in logits] == [True, True]


@of("albert")
def test_a_forward_pass_that_fails_leaves_the_next_one_as_it_is(architecture, plain):
    inputs = architecture.inputs(plain)
    model = converted(plain)
    expected = model(**inputs).logits
    layer = model.albert.encoder.albert_layer_groups[0].albert_layers[1]

    def fail(*_):
        raise RuntimeError("out of memory")

    hook = layer.ffn.register_forward_pre_hook(fail)
    for each in (model, copy.deepcopy(model)):
        with pytest.raises(RuntimeError, match="out of memory"):
            each(**inputs)
    hook.remove()
    assert torch.equal(model(**inputs).logits, expected)
    nvreg.revert_(model)
    assert not model.albert._forward_pre_hooks
