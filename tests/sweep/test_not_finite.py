"""NaN and infinity are no results: of a setting they fail its trial, of the pretrained model the sweep."""

import json
import math
import re
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from nvreg.errors import UserError
from nvreg.methods.model_weights import WeightNoise
from nvreg.report.reading import read_run
from nvreg.sweep import executors
from nvreg.sweep.runner import run_sweep
from tests.cli.running import run
from tests.sweep.running import rewrite_trials, trials_in

TWO = """sweep={sampler: grid,
    methods: {weight-noise: {space: {scale: {values: [0.1, 0.2]}}}}}"""


@pytest.fixture
def broken(tiny_experiment, tmp_path):
    """A copy of the tiny checkpoint that has no numbers for one word."""
    shutil.copytree(tiny_experiment.parent / "model", path := tmp_path / "broken")
    weights = load_file(path / "model.safetensors")
    word = json.loads((path / "tokenizer.json").read_text())["model"]["vocab"]["tree"]
    for name, tensor in weights.items():
        if name.endswith("encoder.embed_tokens.weight") or name == "model.shared.weight":
            tensor[word] = torch.nan
    save_file(weights, path / "model.safetensors", metadata={"format": "pt"})
    return path


def test_a_setting_without_finite_scores_is_a_failed_trial_that_names_the_example(
    experiment, tmp_path, monkeypatch
):
    changed = WeightNoise._changed

    def overflowing(self, index, original, setting):
        weight = changed(self, index, original, setting)
        return weight if weight is None or setting.value("scale", "cross") < 0.2 else weight * math.inf

    monkeypatch.setattr(WeightNoise, "_changed", overflowing)
    assert run_sweep(experiment(TWO), quiet=True) == (2, 0, 1)
    failed = trials_in(tmp_path / "output")[2]
    assert (failed.status, failed.metrics, failed.examples) == ("failed", {}, None)
    assert re.match(
        r"home validation, example \d: expected finite scores, got NaN or infinity; ", failed.error
    )
    read = read_run(tmp_path / "output")
    assert (list(read.trials), read.count("failed")) == ([0, 1], 1)


def test_in_a_race_the_example_is_numbered_in_the_whole_set(experiment, tmp_path, monkeypatch):
    from nvreg.errors import NotFiniteError
    from nvreg.tasks.sequence_to_sequence import SequenceToSequence

    score, calls = SequenceToSequence.score, []

    def second_part_fails(self, model, encoded, **options):
        calls.append(len(encoded.sources))
        if len(calls) > 6 and calls[-1] == 3:  # the rest of a validation set, of the first setting
            raise NotFiniteError(1)
        return score(self, model, encoded, **options)

    monkeypatch.setattr(SequenceToSequence, "score", second_part_fails)
    assert run_sweep(experiment("sweep.racing={after: 5}", "sweep.trials=1"), quiet=True) == (1, 0, 1)
    assert trials_in(tmp_path / "output")[1].error.startswith("home validation, example 7: expected finite")


@pytest.mark.parametrize("metrics", ["[perplexity]", "[bleu]"])
def test_the_pretrained_model_without_finite_scores_ends_the_sweep_with_2(
    experiment, tiny_experiment, broken, tmp_path, metrics
):
    output = tmp_path / "output"
    options = [f"model.path={broken}", "prior={kind: gaussian}", f"evaluation.metrics={metrics}",
               f"selection.metric={metrics[1:-1]}"]  # fmt: skip
    swept = run("sweep", "--config", tiny_experiment, "--output", output, *(
        part for option in options for part in ("--set", option)))  # fmt: skip
    assert swept.exit_code == 2
    assert "nvreg: home validation, example 3: expected finite scores, got NaN or infinity; " in swept.stderr
    assert trials_in(output) == []


def test_a_worker_s_mistake_stays_one(monkeypatch):
    class Worker:
        def measure(self, job, step):
            return executors._failed("home test, example 1: expected finite scores")

    remote = executors._Remote.__new__(executors._Remote)
    remote._worker = Worker()
    remote._differing = ""
    assert type(remote.measure(None).exception) is UserError


def test_a_prior_is_not_estimated_from_what_is_not_finite(experiment, broken):
    with pytest.raises(UserError, match=r"^encoder.layers.0.self_attn: expected finite moments, got NaN"):
        run_sweep(experiment(f"model.path={broken}"), quiet=True)


def test_a_blank_test_set_is_refused_before_anything_is_measured(experiment, tmp_path):
    blank = tmp_path / "blank.jsonl"
    blank.write_text('{"en": " ", "de": ""}\n' * 3)
    with pytest.raises(UserError, match=f"away test in {blank}: expected text in the column 'source'"):
        run_sweep(experiment(f"data.out_of_domain.0.test.files={blank}"), quiet=True)
    assert not (tmp_path / "output").exists()


def without_numbers(*numbers):
    def change(line):
        if line["number"] in numbers:
            line["metrics"]["home"]["validation"]["perplexity"] = "nan"

    return change


def test_a_trial_that_an_earlier_version_gave_nan_has_failed(output, experiment, measured):
    rewrite_trials(output, without_numbers(2))
    read = read_run(output)
    assert (list(read.trials), read.count("failed")) == ([0, 1, 3], 1)
    assert run_sweep(experiment(), quiet=True) == (3, 0, 1)
    assert run_sweep(experiment(), retry_failed=True, quiet=True) == (4, 0, 0)
    assert len(measured) == 1


def test_a_pretrained_model_that_an_earlier_version_gave_nan_is_measured_again(output, experiment, measured):
    rewrite_trials(output, without_numbers(0))
    with pytest.raises(UserError, match=r"pretrained model.*run the sweep again"):
        read_run(output)
    assert run_sweep(experiment(), quiet=True) == (4, 0, 0)
    assert measured == [None]


def test_a_perplexity_that_is_too_large_for_a_number_is_infinite_and_a_result(experiment, tmp_path):
    scaled = TWO.replace("weight-noise", "output-temperature").replace(
        "scale: {values: [0.1, 0.2]}", "output_temperature: {values: [1.0e-4]}"
    )
    assert run_sweep(experiment(scaled), quiet=True) == (2, 0, 0)
    assert math.isinf(float(trials_in(tmp_path / "output")[1].metrics["home"]["test"]["perplexity"]))
