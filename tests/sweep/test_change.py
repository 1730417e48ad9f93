"""The change of attention outputs, by which weight noise is matched to NV."""

import pytest

from nvreg import Prior
from nvreg.experiment import load_experiment
from nvreg.methods import METHODS
from nvreg.methods.change import attention_change
from nvreg.report.analysis import analyse
from nvreg.report.writing import write_report
from nvreg.results import Trial, read_trials
from nvreg.sweep import worker
from nvreg.sweep.runner import run_sweep
from nvreg.sweep.workbench import open_workbench
from nvreg.tasks.sampling import random_batches
from tests.report.test_page import table_under
from tests.sweep.running import rewrite_trials

METHODS_TRIED = """{
  nv: {space: {prior_weight: [0.05, 0.3]}, enqueue: [{tau_sigma: {encoder: 0.2}}]},
  weight-noise: {space: {scale: [0.01, 0.3], seed: {values: [0, 1]}}},
  sink: {space: {sink_logit: [-1, 1]}}}"""


@pytest.fixture
def experiment(tiny_experiment, tmp_path):
    """The tiny experiment with methods that are matched."""

    def load(methods: str = METHODS_TRIED, *overrides: str):
        sweep = f"sweep={{sampler: random, trials: 2, methods: {methods}}}"
        return load_experiment(tiny_experiment, [f"output={tmp_path / 'output'}", sweep, *overrides])

    return load


@pytest.fixture
def sweep(tmp_path):
    def run(experiment) -> list[Trial]:
        run_sweep(experiment, quiet=True)
        return list(read_trials(tmp_path / "output" / "trials.jsonl"))

    return run


def test_every_trial_has_the_mean_change_over_sites_on_in_domain_validation(experiment, sweep, tmp_path):
    asked = experiment()
    pretrained, *trials = sweep(asked)
    assert pretrained.change == 0
    workbench = open_workbench(asked)
    batches = random_batches(workbench.task, workbench.in_domain_validation.examples)
    assert {trial.method for trial in trials if trial.change is None} == {"sink"}  # nothing is matched to it
    for trial in (each for each in trials if each.method != "sink"):
        method = METHODS[trial.method]()
        method.attach_(workbench.model, Prior.load(tmp_path / "output" / "prior.safetensors"), [])
        setting = method.setting_type.from_dict(trial.resolved or trial.settings)
        by_site = attention_change(workbench.model, method, setting, batches)
        method.detach_(workbench.model)
        assert 0 < trial.change == pytest.approx(sum(by_site.values()) / len(by_site))
    header, *rows = table_under(write_report(analyse(tmp_path / "output"), ()), "Settings chosen")
    assert header[-2:] == ["change", "nv's change"]
    assert any(row[:3] == ["weight-noise matched", "0", "in-domain"] for row in rows)


def test_it_changes_no_other_number(experiment, sweep, tmp_path, monkeypatch):
    measured = sweep(experiment())
    monkeypatch.setattr(METHODS["weight-noise"], "matched_to", None)
    (tmp_path / "output" / "trials.jsonl").unlink()
    for with_change, without in zip(measured, sweep(experiment()), strict=True):
        assert without.change is None
        assert (with_change.key, with_change.metrics) == (without.key, without.metrics)
        assert (with_change.prior_weight, with_change.strength) == (without.prior_weight, without.strength)


def test_a_setting_that_is_solved_for_is_solved_once(experiment, sweep, monkeypatch):
    calls = []
    set_ = METHODS["nv"]._calibrated
    monkeypatch.setattr(METHODS["nv"], "_calibrated", lambda *args: calls.append(args) or set_(*args))
    trials = sweep(experiment())
    assert len(calls) == sum("prior_weight" in trial.settings for trial in trials) == 1


@pytest.mark.parametrize(
    "methods", ["{nv: {space: {tau_mu: [0.5, 1]}}}", "{weight-noise: {space: {scale: [0, 1]}}}"]
)
def test_it_is_measured_where_both_methods_are_tried(experiment, sweep, methods):
    assert {trial.change for trial in sweep(experiment(methods))} == {None}


def test_a_trial_that_lost_its_race_or_failed_has_none(experiment, sweep, monkeypatch):
    monkeypatch.setattr(worker, "is_clearly_worse", lambda *_: True)
    raced = sweep(experiment(METHODS_TRIED, "sweep.racing={after: 4}"))
    assert [(trial.status, trial.change) for trial in raced] == [("completed", 0.0), *[("stopped", None)] * 6]


def test_a_trial_whose_change_cannot_be_measured_fails_alone(experiment, sweep, monkeypatch):
    def broken(model, method, setting, batches):
        if method.name == "weight-noise":
            raise RuntimeError("no outputs")
        return attention_change(model, method, setting, batches)

    monkeypatch.setattr(worker, "attention_change", broken)
    trials = sweep(experiment())
    assert [trial.status for trial in trials] == ["completed"] * 3 + ["failed"] * 2 + ["completed"] * 2
    nothing = [trial.status == "failed" or trial.method == "sink" for trial in trials]
    assert [trial.change is None for trial in trials] == nothing


def test_trials_written_before_it_was_measured_are_read(experiment, sweep, tmp_path):
    sweep(experiment())
    path = tmp_path / "output" / "trials.jsonl"
    changes = []
    rewrite_trials(tmp_path / "output", lambda line: changes.append(line.pop("change")))
    assert any(change is not None for change in changes)
    assert {trial.change for trial in read_trials(path)} == {None}
    before = path.read_bytes()
    sweep(experiment())
    assert path.read_bytes() == before
