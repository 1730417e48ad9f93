import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nvreg.attention.settings import PARAMETERS, Settings, SiteSettings
from nvreg.parameters import ROLES

VALUES = {
    "tau_alpha": st.one_of(st.floats(-50, 50), st.just(math.inf)),
    "tau_sigma": st.floats(0, 5),
    "tau_mu": st.floats(0, 1),
}


def by_role(value):
    return st.one_of(
        value,
        st.dictionaries(st.sampled_from(ROLES), st.one_of(value, st.lists(value, min_size=3, max_size=3))),
    )


any_settings = st.builds(Settings, **{name: st.one_of(st.none(), by_role(v)) for name, v in VALUES.items()})


@pytest.mark.parametrize(
    ("parameter", "value"),
    [
        ("tau_alpha", math.nan),
        ("tau_alpha", -math.inf),
        ("tau_sigma", -0.1),
        ("tau_sigma", math.inf),
        ("tau_sigma", math.nan),
        ("tau_mu", -0.01),
        ("tau_mu", 1.01),
        ("tau_mu", math.nan),
        ("tau_mu", "much"),
        ("tau_sigma", True),
        ("tau_sigma", [0.1, 0.2]),
        ("tau_alpha", {"encoder": {"layers": 1}}),
    ],
)
def test_values_outside_the_method_are_refused_by_name(parameter, value):
    with pytest.raises(ValueError, match=parameter):
        Settings(**{parameter: value})
    with pytest.raises(ValueError, match=parameter):
        Settings(**{parameter: {"encoder": [0.5, value]}})


def test_what_is_not_named_is_at_identity():
    settings = Settings(tau_alpha={"cross": [1, 2]}, tau_sigma=0.25)
    assert settings.at("cross", 1) == SiteSettings(2.0, 0.25, 1.0)
    assert settings.at("encoder", 0) == SiteSettings(math.inf, 0.25, 1.0)
    assert not settings.is_identity
    assert Settings.identity().at("decoder", 7).is_identity


@pytest.mark.parametrize(
    "written",
    [
        {},
        {"tau_alpha": math.inf, "tau_sigma": 0, "tau_mu": 1},
        {"tau_alpha": {"encoder": "inf"}, "tau_mu": {"cross": [1, 1.0]}},
        {"tau_sigma": {}},
    ],
)
def test_every_way_to_write_identity_is_identity(written):
    assert Settings(**written) == Settings.identity()
    assert str(Settings(**written)) == "identity"


def test_one_short_line():
    settings = Settings(tau_alpha={"encoder": -3, "decoder": [2, math.inf]}, tau_sigma=0.1)
    assert str(settings) == "tau_alpha encoder=-3 decoder=[2, inf]; tau_sigma 0.1"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (Settings(tau_sigma={"decoder": 0.1}), r"tau_sigma: expected roles .*encoder.*got 'decoder'"),
        (
            Settings(tau_mu={"encoder": [0.5, 1, 1]}),
            r"tau_mu\.encoder: expected 2 values, one a layer, got 3",
        ),
    ],
)
def test_settings_are_checked_against_a_model(settings, message):
    with pytest.raises(ValueError, match=message):
        settings.check({"encoder": 2})


def test_unknown_roles_are_named():
    with pytest.raises(ValueError, match="tau_mu: expected one of encoder, cross, decoder, got 'middle'"):
        Settings(tau_mu={"middle": 0.5})


def test_unknown_parameters_are_named():
    with pytest.raises(ValueError, match="got 'tau_beta'"):
        Settings.from_dict({"tau_beta": 1})


@given(any_settings)
def test_settings_survive_json(settings):
    again = Settings.from_dict(json.loads(json.dumps(settings.to_dict(), allow_nan=False)))
    assert again == settings
    assert hash(again) == hash(settings)
    for role in ROLES:
        for layer in range(3):
            assert again.at(role, layer) == settings.at(role, layer)


@given(any_settings)
def test_identity_is_exactly_every_site_at_identity(settings):
    sites = [settings.at(role, layer) for role in ROLES for layer in range(3)]
    everything = all(site == tuple(rule.identity for rule in PARAMETERS.values()) for site in sites)
    assert settings.is_identity == everything
