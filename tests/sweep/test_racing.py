import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nvreg.samplers import TPE
from nvreg.sweep import worker
from nvreg.sweep.runner import run_sweep
from nvreg.sweep.search import is_clearly_worse
from tests.sweep.running import trials_in

RACING = ["sweep.racing={after: 6}", "sweep.trials=2", "sweep.enqueue=[{tau_sigma: 5}, {tau_sigma: 0.001}]"]
INCUMBENT = {"home": np.linspace(0, 1, 20), "away": np.linspace(2, 3, 20)}


def shifted(**by: float):
    generator = np.random.default_rng(0)
    return {name: scores + by[name] + generator.normal(0, 0.1, 20) for name, scores in INCUMBENT.items()}


@pytest.mark.parametrize(
    ("setting", "lost"),
    [
        (shifted(home=-0.3, away=-0.3), True),
        (shifted(home=-0.3, away=0.0), False),
        (shifted(home=-0.3, away=0.3), False),
        (shifted(home=0.0, away=0.0), False),
        (shifted(home=0.3, away=0.3), False),
    ],
)
def test_only_what_is_clearly_worse_everywhere_is_stopped(setting, lost):
    assert is_clearly_worse(setting, INCUMBENT) == lost


def test_equal_scores_are_not_worse_and_few_examples_decide_nothing():
    assert not is_clearly_worse(INCUMBENT, INCUMBENT)
    few = {name: scores[:4] for name, scores in INCUMBENT.items()}
    assert not is_clearly_worse({name: scores - 1 for name, scores in few.items()}, few)


@given(st.lists(st.floats(-10, 10), min_size=1, max_size=30))
def test_not_both_of_two_settings_are_worse_than_the_other(scores):
    one, other = {"home": np.array(scores)}, {"home": np.zeros(len(scores))}
    assert not (is_clearly_worse(one, other) and is_clearly_worse(other, one))


def test_a_setting_that_loses_its_race_is_stopped_and_not_selectable(
    experiment, finished, tmp_path, measured, monkeypatch
):
    races = []

    def loses(setting, incumbent):
        races.append((setting, incumbent))
        return len(races) == 1

    monkeypatch.setattr(worker, "is_clearly_worse", loses)
    assert run_sweep(experiment(*RACING), quiet=True) == (2, 1, 0)
    pretrained, lost, kept = trials_in(tmp_path / "output")
    assert (lost.status, lost.strength, kept.status) == ("stopped", None, "completed")
    assert lost.metrics.keys() == {"home", "away"}
    assert all(splits.keys() == {"validation"} for splits in lost.metrics.values())
    assert not (tmp_path / "output" / "examples" / lost.key).exists()
    for domain, splits in trials_in(finished)[0].metrics.items():
        assert pretrained.metrics[domain]["validation"] == pytest.approx(splits["validation"], rel=1e-6)
        frame = pd.read_parquet(
            tmp_path / "output" / "examples" / pretrained.key / f"{domain}.validation.parquet"
        )
        scores = -np.array([nll / tokens for nll, tokens, _ in frame["likelihood"]])
        assert len(races[0][0][domain]) == 6
        assert races[0][1][domain] == pytest.approx(scores[:6])

    measured.clear()
    assert run_sweep(experiment(*RACING), quiet=True) == (2, 1, 0)
    assert measured == []
    assert run_sweep(experiment(*RACING[1:]), quiet=True) == (3, 0, 0)
    assert len(measured) == 1
    assert trials_in(tmp_path / "output")[-1].metrics["home"].keys() == {"validation", "test"}


def test_what_another_seed_stopped_races_again(experiment, tmp_path, monkeypatch):
    races = []

    def loses(setting, incumbent):
        races.append(setting)
        return len(races) == 1

    monkeypatch.setattr(worker, "is_clearly_worse", loses)
    assert run_sweep(experiment(*RACING, "sweep.seeds=[1, 2]"), quiet=True) == (4, 1, 0)
    statuses = [(trial.seed, trial.number, trial.status) for trial in trials_in(tmp_path / "output")]
    assert sorted(statuses[1:]) == [
        (1, 1, "stopped"),
        (1, 2, "completed"),
        (2, 1, "completed"),
        (2, 2, "completed"),
    ]


def test_tpe_is_not_told_scores_of_the_first_examples_alone(experiment, monkeypatch):
    told = []
    monkeypatch.setattr(worker, "is_clearly_worse", lambda *_: len(told) == 0)
    monkeypatch.setattr(TPE, "tell", lambda self, setting, scores: told.append(scores))
    space = "sweep.space={tau_sigma: {cross: [0, 1]}}"
    asked = experiment("sweep.racing={after: 6}", "sweep.sampler=tpe", "sweep.trials=2", space)
    assert run_sweep(asked, quiet=True) == (2, 1, 0)
    stopped, completed = told
    assert stopped is None
    assert len(completed) == 2
