import math
from itertools import pairwise

import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nvreg import UserError
from nvreg.experiment import Sweep, load_experiment
from nvreg.methods.nv import NVSetting
from nvreg.parameters import Setting
from nvreg.sweep.plan import encoder_key, make_plan
from nvreg.sweep.search import Search

LAYERS = {"encoder": 2, "cross": 2, "decoder": 2}
SPACE = {
    "tau_alpha": {"encoder": [-2, 5], "cross": [-8, 5]},
    "tau_sigma": {"decoder": {"each_layer": [0, 0.2]}},
}


def settings_to_try(sweep: Sweep, layers=LAYERS) -> list[Setting]:
    return list(make_plan(sweep, layers, 2).searches[0].settings)


def random_sweep(**changes) -> Sweep:
    return Sweep.model_validate({"sampler": "random", "trials": 5, "space": SPACE, **changes})


@given(st.integers(0, 2**63), st.integers(1, 20), st.integers(1, 20))
def test_a_random_trial_depends_on_the_seed_and_its_index_alone(seed, fewer, more):
    first, second = (
        settings_to_try(random_sweep(seed=seed, trials=trials)) for trials in sorted((fewer, more))
    )
    assert second[: len(first)] == first
    assert settings_to_try(random_sweep(seed=seed + 1)) != first[:5]


def test_the_order_of_keys_in_the_file_does_not_matter():
    backwards = {parameter: dict(reversed(roles.items())) for parameter, roles in reversed(SPACE.items())}
    assert settings_to_try(random_sweep(space=backwards)) == settings_to_try(random_sweep())


def test_the_enqueued_come_first_then_the_same_draws():
    wish = {"tau_sigma": {"encoder": 0.25}}
    plain = settings_to_try(random_sweep())
    enqueued = settings_to_try(random_sweep(enqueue=[wish]))
    assert enqueued == [NVSetting.from_dict(wish), *plain[:-1]]
    assert len(enqueued) == len(plain) == 5


def test_a_grid_is_whole_unless_trials_cut_it_and_tries_nothing_twice():
    space = {
        "tau_alpha": {"cross": {"values": [1, "inf"]}},
        "tau_sigma": {"encoder": {"values": [0, 0.1, 0.1]}},
    }
    grid = settings_to_try(Sweep.model_validate({"sampler": "grid", "space": space}))
    assert [str(settings) for settings in grid] == [
        "tau_alpha cross=1",
        "tau_alpha cross=1; tau_sigma encoder=0.1",
        "tau_sigma encoder=0.1",
    ]
    cut = settings_to_try(Sweep.model_validate({"sampler": "grid", "trials": 1, "space": space}))
    assert cut == grid[:1]


@given(st.lists(st.tuples(st.sampled_from([0, 0.1, 0.2]), st.sampled_from([0, 0.3])), max_size=12))
def test_settings_that_share_the_encoder_s_values_follow_each_other(pairs):
    enqueue = [{"tau_sigma": {"encoder": encoder, "cross": cross}} for encoder, cross in pairs]
    sweep = Sweep.model_validate({"sampler": "random", "trials": 20, "space": SPACE, "enqueue": enqueue})
    settings = settings_to_try(sweep)
    keys = [encoder_key("nv", setting) for setting in settings]
    changes = sum(one != other for one, other in pairwise(keys))
    assert changes == len(set(keys)) - 1
    assert len(settings) == len(set(settings))
    wished = {NVSetting.from_dict(values) for values in enqueue} - {NVSetting.identity()}
    assert wished <= set(settings)


def test_the_encoder_s_key_names_what_its_outputs_depend_on():
    cross = {"cross": 0.1}
    assert encoder_key("nv", NVSetting(tau_sigma=cross)) == encoder_key("nv", NVSetting(tau_mu=cross))
    assert encoder_key("nv", NVSetting(tau_sigma=cross)) == "pretrained"
    assert encoder_key("nv", NVSetting(tau_sigma=0.1)) == encoder_key(
        "nv", NVSetting(tau_sigma={"encoder": 0.1, "cross": 0.7})
    )
    assert encoder_key("nv", NVSetting(tau_sigma=0.1)) != encoder_key("nv", NVSetting(tau_sigma=0.2))


def test_every_method_and_seed_is_a_search_of_its_own(tiny_experiment, tmp_path):
    experiment = load_experiment(tiny_experiment, ["sweep.seeds=[3, 5]"])
    plan = make_plan(experiment.sweep, LAYERS, 2)
    found = plan.searches
    assert [(search.method, search.seed, search.planned) for search in found] == [("nv", 3, 3), ("nv", 5, 3)]
    assert plan.planned == 6
    assert not set(found[0].settings) & set(found[1].settings)


def asked(search: Search, score=lambda setting: 0.0) -> list[Setting]:
    settings = []
    while (setting := search.ask()) is not None:
        settings.append(setting)
        search.tell(setting, (score(setting), 0.0))
    return settings


@pytest.fixture
def tpe(tiny_experiment, tmp_path):
    """A TPE search of 16 settings, the first enqueued; made anew at each call."""
    overrides = [
        "sweep.sampler=tpe",
        "sweep.trials=16",
        "sweep.enqueue=[{tau_mu: 0.9}]",
        "sweep.space={tau_alpha: {cross: [-5, 5], encoder: {values: [1, inf]}},"
        " tau_sigma: {encoder: {each_layer: [0, 0.5]}}, prior_weight: 0}",
    ]

    def make(seed: int = 0) -> Search:
        experiment = load_experiment(tiny_experiment, [*overrides, f"sweep.seed={seed}"])
        return make_plan(experiment.sweep, LAYERS, 2).searches[0]

    return make


def test_tpe_tries_the_enqueued_and_draws_within_the_space(tpe):
    settings = asked(tpe())
    assert settings[0] == NVSetting(tau_mu=0.9)
    assert len(set(settings)) == 16 == tpe().planned
    for setting in settings[1:]:
        assert -5 <= setting.value("tau_alpha", "cross") <= 5
        assert setting.value("tau_alpha", "encoder") in (1, math.inf)
        sigmas = [setting.value("tau_sigma", "encoder", layer) for layer in range(2)]
        assert 0 <= min(sigmas) < max(sigmas) <= 0.5
    assert asked(tpe()) == settings
    assert asked(tpe(seed=1)) != settings


def test_tpe_learns_from_what_it_is_told(tpe):
    settings = asked(tpe(), lambda setting: -abs(setting.value("tau_alpha", "cross") - 3))
    distances = [abs(setting.value("tau_alpha", "cross") - 3) for setting in settings[1:]]
    assert sum(distances[10:]) / 5 < sum(distances[:10]) / 10


@pytest.mark.parametrize("kept", [1, 5, 13])
def test_a_tpe_search_that_is_continued_draws_what_it_would_have_drawn(tpe, kept):
    def score(setting: Setting) -> float:
        return setting.value("tau_alpha", "cross")

    whole = asked(tpe(), score)
    search = tpe()
    for setting in whole[:kept]:
        search.remember(NVSetting.from_dict(setting.to_dict()), (score(setting), 0.0))
    enqueued = search.ask()
    assert enqueued == whole[0]
    search.tell(enqueued, (score(enqueued), 0.0))
    assert asked(search, score) == whole[kept:]


@pytest.mark.parametrize("kept", [3, 5])
def test_a_tpe_search_that_is_continued_after_a_failure_does_not_draw_it_again(tpe, kept):
    def scores(setting: Setting) -> tuple[float, float] | None:
        return None if setting == whole[2] else (setting.value("tau_alpha", "cross"), 0.0)

    whole = asked(tpe())[:3]  # the first draws are random, whatever they score
    search, settings = tpe(), []
    while (setting := search.ask()) is not None:
        settings.append(setting)
        search.tell(setting, scores(setting))
    assert (settings[:3], len(set(settings))) == (whole, 16)

    search = tpe()
    for setting in settings[:kept]:
        search.remember(setting, scores(setting))
    search.tell(enqueued := search.ask(), scores(enqueued))
    continued = []
    while (setting := search.ask()) is not None:
        continued.append(setting)
        search.tell(setting, scores(setting))
    assert continued == settings[kept:]


@pytest.mark.parametrize("trials", [4, 40])
def test_tpe_tries_each_setting_of_a_finite_space_once(tiny_experiment, tmp_path, trials):
    space = "{tau_alpha: {cross: {values: [1, 2, inf]}}, tau_sigma: {encoder: {values: [0, 0.1, 0.1]}}}"
    overrides = [f"sweep.trials={trials}", f"sweep.space={space}", "sweep.sampler=tpe"]
    enqueue = "sweep.enqueue=[{tau_alpha: {cross: 2}}, {tau_mu: 0.9}]"
    experiment = load_experiment(tiny_experiment, [*overrides, enqueue])
    search = make_plan(experiment.sweep, LAYERS, 2).searches[0]
    settings = [*iter(search.ask, None)]  # many workers ask before the first score is told
    assert len(settings) == len(set(settings)) == min(trials, 6) == search.planned
    assert not any(setting.is_identity for setting in settings)

    search = make_plan(experiment.sweep, LAYERS, 2).searches[0]
    for setting in settings[2:4]:
        search.remember(setting, (0.0, 0.0))
    assert {*asked(search), *settings[2:4]} == set(settings)


def test_tpe_takes_failures_and_scores_that_are_not_finite(tpe):
    search = tpe()
    for scores in (None, (math.inf, 0.0), (-math.inf, math.nan), (1.0, 1.0)):
        search.tell(search.ask(), scores)
    assert len(asked(search)) == 12


def test_an_enqueued_setting_must_fit_the_model():
    with pytest.raises(UserError, match=r"sweep.enqueue: .*expected 2 values, one a layer, got 3"):
        settings_to_try(random_sweep(enqueue=[{"tau_sigma": {"cross": [0.1, 0.2, 0.3]}}]))


def test_tpe_learns_nothing_from_an_enqueued_setting_that_its_space_has_not(tiny_experiment, tmp_path):
    overrides = [
        "sweep.sampler=tpe",
        "sweep.trials=3",
        "sweep.space={tau_sigma: [0, 1]}",
        "sweep.enqueue=[{tau_sigma: {cross: 0.3}}, {tau_sigma: 0.5}, {tau_sigma: 0.5, tau_mu: 0.9}]",
    ]
    search = make_plan(load_experiment(tiny_experiment, overrides).sweep, LAYERS, 2).searches[0]
    search.copy_study(tmp_path / "study.db", pytest.fail)
    asked(search, lambda setting: 1.0)
    storage = f"sqlite:///{tmp_path / 'study.db'}"
    (name,) = optuna.get_all_study_names(storage)
    assert [trial.params for trial in optuna.load_study(study_name=name, storage=storage).trials] == [
        {"tau_sigma": 0.5}
    ]
