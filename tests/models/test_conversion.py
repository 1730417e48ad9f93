"""The one object that a converted model carries."""

import copy
import pickle

import pytest

import nvreg
from nvreg.attention.settings import Settings
from nvreg.models import registry
from nvreg.models.conversion import conversion_of
from nvreg.models.convert import current_settings
from tests.models.architectures import random_ids, random_prior
from tests.models.running import of

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
