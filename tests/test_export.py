"""A run's choice as a checkpoint: it is the model that was measured."""

import json
import shutil
from pathlib import Path

import pytest
from huggingface_hub import ModelCard
from transformers import AutoModelForSeq2SeqLM

import nvreg
from nvreg.data import load_examples
from nvreg.digests import fingerprint
from nvreg.experiment import load_experiment
from nvreg.metrics import score
from nvreg.models.convert import is_converted
from nvreg.models.loading import load_tokenizer
from nvreg.report.reading import read_run
from nvreg.sweep.runner import run_sweep
from nvreg.tasks import make_task
from tests.cli.running import run
from tests.fake_hub import WRITER
from tests.sweep.running import rewrite_trials

SWEEP = """sweep={sampler: random, trials: 1, methods: {
    nv: {space: {prior_weight: {cross: 0.2}, tau_sigma: {cross: 0.4}}},
    low-rank: {space: {keep: {cross: 0.3}}},
    temperature: {space: {temperature: {cross: 2}}}}}"""


@pytest.fixture(scope="module")
def results(tiny_experiment, tmp_path_factory) -> Path:
    """A run of one setting of each of three methods, rewritten so that the oracle chooses it."""
    output = tmp_path_factory.mktemp("results") / "run"
    run_sweep(load_experiment(tiny_experiment, [SWEEP, f"output={output}"]), quiet=True)

    def favour(line):
        line["metrics"]["away"]["test"]["perplexity"] += 0 if line["number"] else 1000
        line["metrics"]["home"]["validation"]["perplexity"] += 1000 if line["number"] else 0

    rewrite_trials(output, favour)
    return output


def export(*arguments: object):
    return run("export", *arguments)


def perplexity(model, results: Path) -> float:
    """The model's perplexity on the test set of away."""
    experiment = read_run(results).experiment
    tokenizer = load_tokenizer(experiment.model.path)
    task = make_task(
        "translation", tokenizer, model.config, data=experiment.data, evaluation=experiment.evaluation
    )
    test = experiment.data.out_of_domain[0].test
    encoded = task.encode(load_examples(test, experiment.data.columns, task.required))
    return score(task.score(model, encoded), "perplexity")


@pytest.mark.parametrize(
    ("method", "load"), [("nv", nvreg.from_pretrained), ("low-rank", AutoModelForSeq2SeqLM.from_pretrained)]
)
def test_the_checkpoint_scores_what_the_trial_did(results, tmp_path, method, load):
    out = tmp_path / "checkpoint"
    options = ["--protocol", "oracle", "--domain", "away", "--method", method]
    result = export(results, out, *options)
    assert result.exit_code == 0, result.output
    (trial,) = [trial for trial in read_run(results).trials.values() if trial.method == method]
    assert f"oracle chooses trial {trial.number}, {method} " in result.stdout
    model = load(out).eval()
    assert perplexity(model, results) == pytest.approx(
        float(trial.metrics["away"]["test"]["perplexity"]), rel=1e-5
    )
    assert load_tokenizer(str(out)).vocab_size > 0


def test_a_choice_of_the_pretrained_model_is_said_and_saved(results, tmp_path):
    out = tmp_path / "checkpoint"
    result = export(results, out, "--protocol", "in-domain", "--method", "nv")
    assert result.exit_code == 0, result.output
    assert "in-domain keeps the pretrained model, unchanged" in result.stdout
    model = nvreg.from_pretrained(out)
    assert is_converted(model)
    pretrained = read_run(results).trials[0]
    assert perplexity(model, results) == pytest.approx(
        float(pretrained.metrics["away"]["test"]["perplexity"]) - 1000, rel=1e-5
    )


def test_the_pretrained_model_is_saved_whatever_method_it_was_preferred_to(results, tmp_path):
    out = tmp_path / "checkpoint"
    result = export(results, out, "--protocol", "in-domain", "--method", "temperature")
    assert result.exit_code == 0, result.output
    assert "in-domain keeps the pretrained model, unchanged" in result.stdout
    model = AutoModelForSeq2SeqLM.from_pretrained(out).eval()
    assert fingerprint(model) == read_run(results).manifest["model"]
    assert load_tokenizer(str(out)).vocab_size > 0


def test_a_method_without_a_checkpoint_is_refused(results, tmp_path):
    options = ["--protocol", "oracle", "--domain", "away", "--method", "temperature"]
    result = export(results, tmp_path / "checkpoint", *options)
    assert result.exit_code == 2
    assert "a method that a checkpoint can hold" in result.stderr
    assert "got temperature" in result.stderr
    assert not (tmp_path / "checkpoint").exists()


def test_another_model_than_the_run_had_is_refused(results, tmp_path):
    directory = Path(shutil.copytree(results, tmp_path / "run"))
    manifest = json.loads((directory / "manifest.json").read_text())
    del manifest["digest"]  # as an earlier version wrote it
    (directory / "manifest.json").write_text(json.dumps(manifest | {"model": "another"}))
    options = ["--protocol", "in-domain", "--method", "nv"]
    result = export(directory, tmp_path / "checkpoint", *options)
    assert result.exit_code == 2
    assert "was measured with, got another" in result.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ("out", "--from-results", "run"),
        ("model", "out", "--from-results", "run", "--protocol", "in-domain"),
        ("out", "--from-results", "run", "--protocol", "in-domain", "--tau-mu", "0.5"),
        ("out", "--from-results", "run", "--protocol", "in-domain", "--target-column", "de"),
        ("model", "out", "--prior", "p", "--protocol", "in-domain"),
        ("out", "--prior", "p"),
    ],
)
def test_options_of_convert_and_of_export_are_refused_together(arguments, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run("convert", *arguments).exit_code == 2
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("given", [["--from-results", "{}"], ["--from-results={}"]])
def test_what_convert_did_goes_on_working_and_says_its_new_name(results, tmp_path, given):
    out = tmp_path / "checkpoint"
    source = [part.format(results) for part in given]
    result = run("convert", "--protocol", "in-domain", *source, out, "--method", "nv")
    assert result.exit_code == 0, result.output
    assert "in-domain keeps the pretrained model, unchanged" in result.stdout
    assert "nvreg convert OUT --from-results RUN is now nvreg export RUN OUT" in result.stderr
    assert is_converted(nvreg.from_pretrained(out))


def test_the_card_has_what_the_run_measured(results, tmp_path):
    for method, library in (("nv", "nvreg"), ("low-rank", "transformers")):
        out = tmp_path / method
        assert (
            export(results, out, "--protocol", "oracle", "--domain", "away", "--method", method).exit_code
            == 0
        )
        card = ModelCard.load(out / "README.md")
        assert card.data.library_name == library
        assert card.data.pipeline_tag == "translation"
        (trial,) = [trial for trial in read_run(results).trials.values() if trial.method == method]
        told = {(each.dataset_name, each.metric_name): each.metric_value for each in card.data.eval_results}
        assert told == pytest.approx(
            {
                (domain, name): float(splits["test"][name])
                for domain, splits in trial.metrics.items()
                for name in ("perplexity", "bleu")
            }
        )
        assert f"Protocol oracle chose trial {trial.number} for away, of 1 settings of {method}." in card.text
        assert "an upper bound, and no result" in card.text
        assert str(tmp_path) not in str(card)
        assert str(results) not in str(card)


def test_what_a_run_chose_is_pushed(results, tmp_path, hub, monkeypatch):
    options = ["--protocol", "in-domain", "--method", "nv", "--push", "me/robust"]
    refused = export(results, tmp_path / "none", *options)
    assert refused.exit_code == 2
    assert "got no token; log in with `hf auth login`" in refused.stderr
    assert not (tmp_path / "none").exists()
    monkeypatch.setenv("HF_TOKEN", WRITER)
    result = export(results, tmp_path / "OUT", *options)
    assert result.exit_code == 0, result.output
    assert f"pushed to {hub.endpoint}/me/robust/commit/" in result.stdout
    _, files = hub.repos["me/robust"].files("main")
    assert files == {path.name: path.read_bytes() for path in (tmp_path / "OUT").iterdir()}
    assert 'nvreg.from_pretrained("me/robust")' in files["README.md"].decode()
    assert is_converted(nvreg.from_pretrained("me/robust"))
