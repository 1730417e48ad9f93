"""What a sweep tries: which settings, in which order, read and made once."""

from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nvreg import UserError
from nvreg.experiment import Sweep, load_experiment
from nvreg.methods import section
from nvreg.methods.nv import NVSetting
from nvreg.methods.section import MethodSpace
from nvreg.models import loading
from nvreg.parameters import Setting
from nvreg.samplers import Grid
from nvreg.sweep import workbench as workbench_module
from nvreg.sweep.plan import encoder_key, make_plan
from nvreg.sweep.runner import run_sweep
from tests.tiny import tiny_marian

LAYERS = {"encoder": 2, "cross": 2, "decoder": 2}
SPACE = {
    "tau_alpha": {"encoder": [-2, 5], "cross": [-8, 5]},
    "tau_sigma": {"decoder": {"each_layer": [0, 0.2]}},
}


def settings_to_try(sweep: Sweep, layers=LAYERS) -> list[Setting]:
    return list(make_plan(sweep, layers, 2).searches[0].settings)


def random_sweep(**changes) -> Sweep:
    return Sweep.model_validate({"sampler": "random", "trials": 5, "space": SPACE, **changes})


@given(st.integers(0, 2**63 - 2), st.integers(1, 20), st.integers(1, 20))
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


def test_an_enqueued_setting_must_fit_the_model():
    with pytest.raises(
        UserError, match=r"sweep.enqueue.0.tau_sigma.cross: expected 2 values, one a layer, got 3"
    ):
        settings_to_try(random_sweep(enqueue=[{"tau_sigma": {"cross": [0.1, 0.2, 0.3]}}]))


def test_a_sweep_reads_lists_makes_and_loads_everything_once(tiny_experiment, tmp_path, monkeypatch):
    calls = Counter()

    def count(where, name, label=lambda *args, **options: ""):
        original = getattr(where, name)

        def counted(*args, **options):
            calls[f"{name} {label(*args, **options)}".strip()] += 1
            return original(*args, **options)

        monkeypatch.setattr(where, name, counted)

    tiny_marian(seed=5)[0].save_pretrained(tmp_path / "other")
    count(section, "parse_space")
    count(MethodSpace, "make")
    count(Grid, "listed")
    count(workbench_module, "make_plan")
    count(loading, "load_model", lambda path, *_, **__: Path(path).name)
    count(workbench_module, "load_model", lambda path, *_, **__: Path(path).name)
    methods = (
        f"{{nv: {{space: {{tau_mu: {{values: [0.8, 0.9]}}}}}}, "
        f"wise-ft: {{pretrained: {tmp_path / 'other'}, space: {{mix: {{values: [0.5, 0.7]}}}}}}}}"
    )
    overrides = [f"sweep={{sampler: grid, methods: {methods}}}", f"output={tmp_path / 'output'}"]
    assert run_sweep(load_experiment(tiny_experiment, overrides), quiet=True) == (5, 0, 0)
    assert calls == {
        "parse_space": 2,
        "make": 2,
        "listed": 2,
        "make_plan": 1,
        "load_model model": 1,
        "load_model other": 1,
    }
