"""Searches that learn: what TPE draws, what it is told, and the copy of its study."""

import math
import sqlite3
from contextlib import closing

import optuna
import pytest

from nvreg.experiment import load_experiment
from nvreg.methods.nv import NVSetting
from nvreg.parameters import Setting
from nvreg.sweep.plan import make_plan
from nvreg.sweep.search import Search

LAYERS = {"encoder": 2, "cross": 2, "decoder": 2}


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


def studies(file) -> dict[str, int]:
    """How many trials each study of a database has."""
    storage = f"sqlite:///{file}"
    return {
        name: len(optuna.load_study(study_name=name, storage=storage).trials)
        for name in optuna.get_all_study_names(storage)
    }


def of_another_version(file) -> None:
    with closing(sqlite3.connect(file)) as database, database:
        database.execute("UPDATE alembic_version SET version_num = 'v99.0.0'")
        database.execute("UPDATE version_info SET schema_version = 99")


@pytest.mark.parametrize(
    "damage",
    [
        of_another_version,
        lambda file: file.write_bytes(b"SQLite format 3\0" + bytes(range(256)) * 20),
        lambda file: file.write_bytes(file.read_bytes()[:5000]),
        lambda file: file.write_text("no database"),
        lambda file: file.write_bytes(file.read_bytes()[:-4096] + bytes(4096)),
    ],
    ids=["another version", "damaged", "torn", "something else", "a page of zeros"],
)
def test_a_study_that_cannot_be_read_is_made_again_with_a_line(tpe, tmp_path, damage):
    file, lines = tmp_path / "study.db", []
    search = tpe()
    search.copy_study(file, lines.append)
    expected = asked(search)
    assert lines == []
    damage(file)
    search = tpe()
    search.copy_study(file, lines.append)
    assert asked(search) == expected
    assert len(lines) == 1
    assert "study.db: expected a database of this version of Optuna, got: " in lines[0]
    assert "\n" not in lines[0]
    assert studies(file) == {"nv-0": 15}  # the enqueued one is outside the space


def test_studies_of_other_searches_stay(tpe, tmp_path):
    for seed in (0, 1, 0):
        search = tpe(seed)
        search.copy_study(tmp_path / "study.db", pytest.fail)
        asked(search)
    assert studies(tmp_path / "study.db") == {"nv-0": 15, "nv-1": 15}


def test_a_study_is_in_the_file_that_is_named_and_in_no_other(tpe, tmp_path):
    file = tmp_path / "a?b#c%20d" / "study.db"
    file.parent.mkdir()
    search = tpe()
    search.copy_study(file, pytest.fail)
    asked(search)
    assert [path.name for path in tmp_path.rglob("*")] == ["a?b#c%20d", "study.db"]


def test_a_search_goes_on_where_no_study_can_be_kept(tpe, tmp_path):
    lines, search = [], tpe()
    search.copy_study(tmp_path / "nowhere" / "study.db", lines.append)
    assert asked(search) == asked(tpe())
    assert len(lines) == 2
    assert "goes without" in lines[1]

    lines.clear()
    search = tpe()
    search.copy_study(tmp_path / "study.db", lines.append)
    (tmp_path / "study.db").unlink()
    (tmp_path / "study.db").mkdir()
    assert asked(search) == asked(tpe())
    assert len(lines) == 1
    assert "copied no further" in lines[0]
