import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import log_softmax, softmax

from nvreg.metrics import METRICS, statistics_of
from nvreg.metrics.classification import choice_rows
from nvreg.metrics.temperature import alternatives_of
from nvreg.samplers import TPE
from nvreg.sweep import worker
from nvreg.sweep.runner import run_sweep
from nvreg.sweep.search import first_examples, is_clearly_worse
from tests.sweep.running import trials_in

RACING = ["sweep.racing={after: 6}", "sweep.trials=2", "sweep.enqueue=[{tau_sigma: 5}, {tau_sigma: 0.001}]"]
NLL = METRICS["nll"]
TEMPERATURES = [0.8, 0.9, 1.0, 1.1, 1.25, 1.5]


def likelihood(nll, tokens=10):
    """Statistics of examples by their nll a token and their tokens, of four characters each."""
    nll = np.asarray(nll, dtype=float)
    tokens = np.broadcast_to(np.asarray(tokens, dtype=float), nll.shape)
    return np.stack([nll * tokens, tokens, 4 * tokens], axis=1)


INCUMBENT = {"home": (likelihood(np.linspace(0, 1, 20)),), "away": (likelihood(np.linspace(2, 3, 20)),)}


def shifted(**by: float):
    generator = np.random.default_rng(0)
    return {
        name: (likelihood(rows[:, 0] / rows[:, 1] + by[name] + generator.normal(0, 0.1, len(rows))),)
        for name, (rows,) in INCUMBENT.items()
    }


@pytest.mark.parametrize(
    ("setting", "lost"),
    [
        (shifted(home=0.3, away=0.3), True),
        (shifted(home=0.3, away=0.0), False),
        (shifted(home=0.3, away=-0.3), False),
        (shifted(home=0.0, away=0.0), False),
        (shifted(home=-0.3, away=-0.3), False),
    ],
)
def test_only_what_is_clearly_worse_everywhere_is_stopped(setting, lost):
    assert is_clearly_worse(NLL, setting, INCUMBENT) == lost


def test_higher_is_better_is_minded():
    right, wrong = ({"home": (np.tile([1.0, label], (20, 1)),)} for label in (1, 0))
    assert is_clearly_worse(METRICS["accuracy"], wrong, right)
    assert not is_clearly_worse(METRICS["accuracy"], right, wrong)


@pytest.mark.parametrize("name", ["nll", "perplexity", "bits-per-character"])
def test_what_worsens_most_examples_and_improves_the_score_goes_on(name):
    """Forty short examples worsen a little, four long ones gain much: the perplexity falls."""
    tokens = np.r_[np.full(40, 5), np.full(4, 200)]
    before = np.full(44, 3.0)
    after = before + np.r_[np.full(40, 0.05), np.full(4, -0.5)]
    setting, incumbent = ({"home": (likelihood(nll, tokens),)} for nll in (after, before))
    assert METRICS[name].score(*setting["home"]) < METRICS[name].score(*incumbent["home"])
    assert not is_clearly_worse(METRICS[name], setting, incumbent)


def test_equal_scores_are_not_worse_and_few_examples_decide_nothing():
    assert not is_clearly_worse(NLL, INCUMBENT, INCUMBENT)
    few = {name: (rows[:4],) for name, (rows,) in INCUMBENT.items()}
    worse = {name: (rows + np.array([1, 0, 0]),) for name, (rows,) in few.items()}
    assert not is_clearly_worse(NLL, worse, few)


@pytest.mark.parametrize("broken", [np.inf, np.nan])
def test_a_destroyed_model_is_stopped(broken):
    destroyed = {name: (np.r_[[[broken, 1, 1]], rows[1:]],) for name, (rows,) in INCUMBENT.items()}
    assert is_clearly_worse(NLL, destroyed, INCUMBENT)
    assert not is_clearly_worse(NLL, INCUMBENT, destroyed)
    assert not is_clearly_worse(NLL, destroyed, destroyed)


@given(st.lists(st.floats(-10, 10), min_size=1, max_size=30))
def test_not_both_of_two_settings_are_worse_than_the_other(nll):
    one, other = {"home": (likelihood(nll),)}, {"home": (likelihood(np.zeros(len(nll))),)}
    assert not (is_clearly_worse(NLL, one, other) and is_clearly_worse(NLL, other, one))


def test_a_setting_that_loses_its_race_is_stopped_and_not_selectable(
    experiment, finished, tmp_path, measured, monkeypatch
):
    races = []

    def loses(metric, setting, incumbent):
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
        assert [len(rows) for rows in races[0][0][domain]] == [6, 6]
        assert races[0][1][domain][0] == pytest.approx(statistics_of(frame, "likelihood")[:6])

    measured.clear()
    assert run_sweep(experiment(*RACING), quiet=True) == (2, 1, 0)
    assert measured == []
    assert run_sweep(experiment(*RACING[1:]), quiet=True) == (3, 0, 0)
    assert len(measured) == 1
    assert trials_in(tmp_path / "output")[-1].metrics["home"].keys() == {"validation", "test"}


def test_what_another_seed_stopped_races_again(experiment, tmp_path, monkeypatch):
    races = []

    def loses(metric, setting, incumbent):
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


def frame_of(logits: np.ndarray, labels: np.ndarray, metric: str) -> pd.DataFrame:
    """Scores of a classifier: the statistics of a metric, and what lets any temperature be tried."""
    log_probabilities = log_softmax(logits, axis=1)
    rows = choice_rows(log_probabilities, labels)[METRICS[metric].group]
    return pd.DataFrame(
        {
            METRICS[metric].group: list(rows),
            **alternatives_of(list(log_probabilities), list(labels)),
        }
    )


@pytest.fixture
def classified() -> tuple[np.ndarray, np.ndarray]:
    """Logits that are as sure as they should be, and labels."""
    generator = np.random.default_rng(0)
    logits = generator.normal(scale=2, size=(200, 3))
    labels = np.array([generator.choice(3, p=softmax(row)) for row in logits])
    return logits, labels


@pytest.mark.parametrize("metric", ["nll", "brier", "ece"])
def test_what_is_only_surer_goes_on_as_a_temperature_mends_it(classified, metric):
    logits, labels = classified
    kept = TEMPERATURES
    race = [
        {"home": first_examples(frame_of(each, labels, metric), METRICS[metric], kept)}
        for each in (4 * logits, logits, 4 * logits[:, ::-1])
    ]
    surer, incumbent, wrong = race
    assert all(len(each["home"]) == 2 for each in race)
    as_they_are = [{"home": each["home"][:1]} for each in race]
    assert is_clearly_worse(METRICS[metric], as_they_are[0], as_they_are[1])
    assert not is_clearly_worse(METRICS[metric], surer, incumbent)
    if metric != "ece":  # at the best temperature, what knows nothing is calibrated well
        assert is_clearly_worse(METRICS[metric], wrong, incumbent)


def test_a_language_model_races_at_the_best_temperature_that_was_kept():
    kept = [0.8, 1.0, 1.25]
    frame = pd.DataFrame(
        {
            "likelihood": [np.array([3.0, 2]), np.array([5.0, 2])],
            "tempered": [np.array([4.0, 3, 2]), np.array([6.0, 5, 5.5])],
        }
    )
    as_they_are, tempered = first_examples(frame, NLL, kept)
    assert as_they_are.tolist() == [[3, 2], [5, 2]]
    assert tempered.tolist() == [[2, 2], [5.5, 2]]
    assert len(first_examples(frame[["likelihood"]], NLL, kept)) == 1


def test_where_no_temperature_changes_the_metric_examples_race_as_they_are(classified):
    frame = frame_of(*classified, "accuracy")
    assert len(first_examples(frame, METRICS["accuracy"], TEMPERATURES)) == 1
