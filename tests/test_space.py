import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nvreg import Settings, UserError
from nvreg.attention.settings import PARAMETERS, PRIOR_WEIGHT
from nvreg.space import check_space, draw, parse_dimension, parse_space, product

LAYERS = {"encoder": 2, "cross": 3, "decoder": 3}

bounds = st.tuples(st.floats(0, 1), st.floats(0, 1)).filter(lambda pair: pair[0] < pair[1]).map(list)
number = st.floats(0, 1)
dimensions = st.one_of(
    number,
    bounds,
    st.lists(number, min_size=1, max_size=4).map(lambda values: {"values": values}),
    st.lists(number, min_size=3, max_size=3).map(lambda values: {"layers": values}),
    bounds.map(lambda pair: {"each_layer": pair}),
)
spaces = st.dictionaries(
    st.sampled_from(["tau_alpha", "tau_sigma", "tau_mu"]),
    st.dictionaries(st.sampled_from(["cross", "decoder"]), dimensions, min_size=1),
    min_size=1,
)


def values_of(settings: Settings, parameter: str, role: str) -> list[float]:
    return [getattr(settings.at(role, layer), parameter) for layer in range(LAYERS[role])]


@given(spaces, st.integers(0, 2**32))
def test_every_draw_lies_in_its_dimension_and_the_rest_is_identity(written, seed):
    settings = Settings(**draw(parse_space(PARAMETERS, written), LAYERS, np.random.default_rng(seed)))
    for parameter in ("tau_alpha", "tau_sigma", "tau_mu"):
        for role in LAYERS:
            values = values_of(settings, parameter, role)
            match written.get(parameter, {}).get(role):
                case None:
                    assert values == values_of(Settings.identity(), parameter, role)
                case {"values": choices}:
                    assert len(set(values)) == 1
                    assert values[0] in choices
                case {"layers": layers}:
                    assert values == layers
                case {"each_layer": [low, high]}:
                    assert all(low <= value <= high for value in values)
                case [low, high]:
                    assert len(set(values)) == 1
                    assert low <= values[0] <= high
                case fixed:
                    assert values == [fixed] * LAYERS[role]


def test_a_range_is_drawn_once_a_role_and_each_layer_once_a_layer():
    space = parse_space(PARAMETERS, {"tau_sigma": {"cross": [0, 1], "decoder": {"each_layer": [0, 1]}}})
    drawn = [Settings(**draw(space, LAYERS, np.random.default_rng(seed))) for seed in range(200)]
    shared = [values_of(settings, "tau_sigma", "cross")[0] for settings in drawn]
    single = np.array([values_of(settings, "tau_sigma", "decoder") for settings in drawn])
    assert 0.4 < np.mean(shared) < 0.6
    assert len(set(shared)) == 200
    assert np.abs(np.corrcoef(single.T) - np.eye(3)).max() < 0.3


def test_one_dimension_may_serve_all_roles():
    space = parse_space(PARAMETERS, {"tau_sigma": [0, 1], "tau_mu": {"values": [0.5]}})
    drawn = Settings(**draw(space, LAYERS, np.random.default_rng(0)))
    sigmas = {value for role in LAYERS for value in values_of(drawn, "tau_sigma", role)}
    assert len(sigmas) == 1
    assert {value for role in LAYERS for value in values_of(drawn, "tau_mu", role)} == {0.5}
    with pytest.raises(UserError, match="expected values by layer under a role"):
        check_space(parse_space(PARAMETERS, {"tau_sigma": {"each_layer": [0, 1]}}), LAYERS)


@given(st.floats(1e-6, 0.5), st.floats(0.51, 0.99), st.integers(0, 2**32))
def test_a_logarithmic_parameter_is_drawn_log_uniformly_above_0(low, high, seed):
    generator = np.random.default_rng(seed)
    dimension = parse_dimension("prior_weight", PRIOR_WEIGHT, [low, high])
    drawn = [dimension.draw(generator, 1) for _ in range(200)]
    assert low <= min(drawn) <= max(drawn) <= high
    assert 0.3 < np.mean(np.array(drawn) < math.sqrt(low * high)) < 0.7
    linear = parse_dimension("prior_weight", PRIOR_WEIGHT, [0, high])
    assert 0.3 < np.mean([linear.draw(generator, 1) < high / 2 for _ in range(200)]) < 0.7


def test_the_product_changes_the_encoder_last():
    space = parse_space(
        PARAMETERS,
        {"tau_mu": {"decoder": {"values": [0.4, 0.5]}}, "tau_sigma": {"encoder": {"values": [0.1, 0.2]}}},
    )
    assert [values["tau_sigma"]["encoder"] for values in product(space)] == [0.1, 0.1, 0.2, 0.2]


def test_the_product_of_choices_has_every_combination_once():
    space = parse_space(
        PARAMETERS,
        {"tau_alpha": {"cross": {"values": [-1, "inf"]}}, "tau_sigma": {"cross": {"values": [0, 0.1, 0.2]}}},
    )
    pairs = {
        (values_of(Settings(**values), "tau_alpha", "cross")[0], values["tau_sigma"]["cross"])
        for values in product(space)
    }
    assert pairs == {(a, s) for a in (-1, math.inf) for s in (0, 0.1, 0.2)}
    assert len(list(product(space))) == 6


@pytest.mark.parametrize(
    ("parameter", "written"),
    [
        ("tau_sigma", -0.1),
        ("tau_sigma", "inf"),
        ("tau_sigma", [-0.1, 0.2]),
        ("tau_sigma", [0.2, 0.2]),
        ("tau_sigma", [0.1, 0.2, 0.3]),
        ("tau_sigma", {"values": []}),
        ("tau_sigma", {"values": 0.1}),
        ("tau_sigma", {"values": [0.1], "layers": [0.1]}),
        ("tau_sigma", {"each_layer": [0.1]}),
        ("tau_sigma", True),
        ("tau_sigma", None),
        ("tau_sigma", "much"),
        ("tau_mu", [0.5, 1.5]),
        ("tau_alpha", math.nan),
        ("tau_alpha", [0, math.inf]),
        ("tau_alpha", -math.inf),
    ],
)
def test_what_settings_or_the_syntax_do_not_allow_is_refused(parameter, written):
    with pytest.raises(ValueError, match="expected"):
        parse_dimension(parameter, PARAMETERS[parameter], written)


def test_roles_and_layers_that_the_model_has_not_are_refused_by_name():
    with pytest.raises(
        UserError,
        match=r"sweep.space.tau_mu.decoder: expected a role of this model \(encoder\), got 'decoder'",
    ):
        check_space(parse_space(PARAMETERS, {"tau_mu": {"decoder": 0.5}}), {"encoder": 2})
    with pytest.raises(ValueError, match=r"tau_mu: expected one of encoder, cross, decoder"):
        parse_space(PARAMETERS, {"tau_mu": {"head": 0.5}})
    with pytest.raises(UserError, match=r"sweep.space.tau_mu.cross: expected 3 values, one a layer, got 2"):
        check_space(parse_space(PARAMETERS, {"tau_mu": {"cross": {"layers": [0.5, 1]}}}), LAYERS)
    check_space(parse_space(PARAMETERS, {"tau_mu": {"cross": {"layers": [0.5, 1, 1]}}}), LAYERS)


def test_a_parameter_of_the_whole_model_has_no_roles():
    from nvreg.methods import METHODS

    parameters = METHODS["wise-ft"].setting_type.parameters
    assert list(parse_space(parameters, {"mix": [0, 1]})) == [("mix", None)]
    with pytest.raises(ValueError, match="mix: expected one dimension for the whole model"):
        parse_space(parameters, {"mix": {"encoder": [0, 1]}})
