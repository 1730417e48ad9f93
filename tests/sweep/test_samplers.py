import pytest
from hypothesis import given
from hypothesis import strategies as st

from nvreg import Settings, UserError
from nvreg.config import Sweep
from nvreg.sweep.samplers import settings_to_try

LAYERS = {"encoder": 2, "cross": 2, "decoder": 2}
SPACE = {
    "tau_alpha": {"encoder": [-2, 5], "cross": [-8, 5]},
    "tau_sigma": {"decoder": {"each_layer": [0, 0.2]}},
}


def random_sweep(**changes) -> Sweep:
    return Sweep.model_validate({"sampler": "random", "trials": 5, "space": SPACE, **changes})


@given(st.integers(0, 2**63), st.integers(1, 20), st.integers(1, 20))
def test_a_random_trial_depends_on_the_seed_and_its_index_alone(seed, fewer, more):
    first, second = (
        settings_to_try(random_sweep(seed=seed, trials=trials), LAYERS) for trials in sorted((fewer, more))
    )
    assert second[: len(first)] == first
    assert settings_to_try(random_sweep(seed=seed + 1), LAYERS)[1:] != first[1:6]


def test_the_order_of_keys_in_the_file_does_not_matter():
    backwards = {parameter: dict(reversed(roles.items())) for parameter, roles in reversed(SPACE.items())}
    assert settings_to_try(random_sweep(space=backwards), LAYERS) == settings_to_try(random_sweep(), LAYERS)


def test_the_pretrained_model_comes_first_then_the_enqueued_then_the_same_draws():
    wish = {"tau_sigma": {"encoder": 0.25}}
    plain = settings_to_try(random_sweep(), LAYERS)
    enqueued = settings_to_try(random_sweep(enqueue=[wish]), LAYERS)
    assert plain[0].is_identity
    assert enqueued[:2] == [Settings.identity(), Settings.from_dict(wish)]
    assert enqueued[2:] == plain[1:-1]
    assert len(enqueued) == len(plain) == 6


def test_a_grid_is_whole_unless_trials_cut_it_and_tries_nothing_twice():
    space = {
        "tau_alpha": {"cross": {"values": [1, "inf"]}},
        "tau_sigma": {"encoder": {"values": [0, 0.1, 0.1]}},
    }
    grid = settings_to_try(Sweep.model_validate({"sampler": "grid", "space": space}), LAYERS)
    assert [str(settings) for settings in grid] == [
        "identity",
        "tau_alpha cross=1",
        "tau_alpha cross=1; tau_sigma encoder=0.1",
        "tau_sigma encoder=0.1",
    ]
    cut = settings_to_try(Sweep.model_validate({"sampler": "grid", "trials": 1, "space": space}), LAYERS)
    assert cut == grid[:2]


def test_an_enqueued_setting_must_fit_the_model():
    with pytest.raises(UserError, match=r"sweep.enqueue: .*expected 2 values, one a layer, got 3"):
        settings_to_try(random_sweep(enqueue=[{"tau_sigma": {"cross": [0.1, 0.2, 0.3]}}]), LAYERS)
