"""A new control is a file and a line: it is swept, matched, reported, chosen and saved like any other."""

import json

import pytest
from jsonschema import Draft202012Validator

from nvreg.config.yaml import read_yaml
from nvreg.errors import UserError
from nvreg.experiment import Experiment, load_experiment
from nvreg.methods import METHODS
from nvreg.results import read_trials
from nvreg.sweep.runner import run_sweep
from tests.cli.running import run
from tests.conftest import EXPERIMENT

SWEEP = """{sampler: grid, methods: {
  nv: {space: {tau_sigma: {values: [0.2]}}},
  shrink: {biases: true, space: {factor: {values: [0.5, 0.9]}}}}}"""


@pytest.fixture
def shrink(monkeypatch):
    monkeypatch.setitem(METHODS, "shrink", "tests.methods.shrink:Shrink")


@pytest.mark.usefixtures("shrink", "undrawn")
def test_a_new_control_is_a_file_and_a_line(tiny_experiment, tmp_path):
    output = tmp_path / "output"
    experiment = load_experiment(tiny_experiment, [f"sweep={SWEEP}", f"output={output}"])
    assert run_sweep(experiment, quiet=True) == (4, 0, 0)
    trials = list(read_trials(output / "trials.jsonl"))
    assert [trial.settings for trial in trials if trial.method == "shrink"] == [
        {"factor": 0.5},
        {"factor": 0.9},
    ]
    assert [trial.strength for trial in trials if trial.method == "shrink"] == pytest.approx([0.5, 0.1])
    assert all(trial.change is not None for trial in trials)
    manifest = json.loads((output / "manifest.json").read_text())
    prior = manifest["prior"]["fingerprint"]
    assert manifest["methods"]["shrink"] == f"shrink biases=True {prior}"

    reported = run("report", output)
    assert reported.exit_code == 0, reported.output
    assert "| shrink " in reported.stdout
    assert "| shrink matched " in reported.stdout
    choice = ["--protocol", "oracle", "--domain", "away", "--method", "shrink"]
    exported = run("export", output, tmp_path / "checkpoint", *choice)
    assert exported.exit_code == 0, exported.output
    assert (tmp_path / "checkpoint" / "model.safetensors").is_file()


@pytest.mark.usefixtures("shrink")
def test_its_options_and_parameters_are_checked_and_in_the_schema(tiny_experiment):
    document = read_yaml(EXPERIMENT) | {"sweep": read_yaml(SWEEP)}
    validator = Draft202012Validator(Experiment.model_json_schema())
    validator.validate(document)
    document["sweep"]["methods"]["shrink"]["biases"] = "many"
    assert list(validator.iter_errors(document))
    for written, message in (
        ("biases: many", "sweep.methods.shrink.biases: expected"),
        ("bias: true", "sweep.methods.shrink.bias: unknown key, did you mean 'biases'?"),
    ):
        with pytest.raises(UserError) as caught:
            load_experiment(tiny_experiment, [f"sweep={SWEEP.replace('biases: true', written)}"])
        assert message in str(caught.value)
    with pytest.raises(UserError, match="a number from 0 to 1"):
        load_experiment(tiny_experiment, [f"sweep={SWEEP.replace('0.9', '1.9')}"])


def test_without_the_line_it_is_not_known(tiny_experiment):
    with pytest.raises(UserError, match=r"expected one of nv, .*, got 'shrink'"):
        load_experiment(tiny_experiment, [f"sweep={SWEEP}"])
