"""The model ``nvreg`` in the real lm-evaluation-harness, on tasks and models of this machine."""

import json
import math
import sqlite3
import sys
import tomllib
from importlib import import_module
from pathlib import Path

import pytest

import nvreg
from nvreg.models.loading import load_model, load_tokenizer
from nvreg.tasks.sampling import batches_of_file
from tests.cli.running import run
from tests.harness.local import WINDOW, printed, write_data, write_model, write_tasks
from tests.harness.test_figures import FIGURES

pytestmark = getattr(pytest.mark, "lm-eval")

SETTING = {"tau_alpha": 0.0, "tau_sigma": 0.3}


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    """A decoder and a translation model, plain and converted in both spaces at identity, and local tasks."""
    import lm_eval.evaluator

    lm_eval.evaluator.add_env_info = lambda _: None  # asks the whole system, for seconds
    directory = tmp_path_factory.mktemp("harness")
    data = write_data(directory)
    write_tasks(directory / "tasks", data)
    for name, file, columns in (("gpt2", "text", ("text", None)), ("marian", "pairs", ("en", "de"))):
        path = write_model(directory / name, name)
        tokenizer = load_tokenizer(path)
        for space in ("inputs", "heads"):
            model = load_model(path, device="cpu")
            prior = nvreg.estimate_prior(
                model, batches_of_file(model, tokenizer, data[file], *columns), space=space
            )
            out = directory / f"{name}-{space}"
            nvreg.save_pretrained(nvreg.convert_(model, prior), out)
            tokenizer.save_pretrained(out)
    return directory


def measured(directory, kind, model, tasks, cache=None, **arguments):
    import lm_eval
    from lm_eval.tasks import TaskManager

    import nvreg.harness  # noqa: F401 - which registers the model

    return lm_eval.simple_evaluate(
        kind,
        model_args={"pretrained": str(directory / model), "dtype": "float32", **arguments},
        tasks=[f"local_{task}" for task in tasks],
        task_manager=TaskManager(include_path=str(directory / "tasks"), include_defaults=False),
        device="cpu",
        batch_size=4,
        bootstrap_iters=0,
        use_cache=None if cache is None else str(cache),
        log_samples=True,
    )


def answers(result):
    """Return all that a model answered, by task."""
    return {
        task: [(sample["doc_id"], sample["resps"]) for sample in samples]
        for task, samples in result["samples"].items()
    }


def test_the_committed_figures_are_what_the_harness_prints(tmp_path):
    found = printed(tmp_path)
    assert {name: found[name] for name in FIGURES} == pytest.approx(FIGURES, rel=1e-6)


def test_the_entry_point_is_the_model_that_is_registered():
    from lm_eval.api.registry import get_model

    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    module, _, name = project["entry-points"]["lm_eval.models"]["nvreg"].partition(":")
    assert getattr(import_module(module), name) is get_model("nvreg")


@pytest.mark.parametrize("space", ["inputs", "heads"])
@pytest.mark.parametrize("model", ["gpt2", "marian"])
def test_at_identity_every_answer_is_that_of_hf_bit_for_bit(directory, model, space):
    tasks = ["rolling", "choice", "generation"]
    plain = answers(measured(directory, "hf", model, tasks))
    result = measured(directory, "nvreg", f"{model}-{space}", tasks)
    assert answers(result) == plain
    assert len({str(answer) for answer in plain["local_generation"]}) > 1
    assert result["config"]["nvreg"]["space"] == space
    assert result["config"]["nvreg"]["resolved"] == {}


@pytest.mark.parametrize("space", ["inputs", "heads"])
def test_a_setting_is_what_nvreg_evaluate_measures_and_is_in_the_results(directory, space):
    """It is given as model arguments, by role; the harness and nvreg agree on the regularised model too."""
    model = f"gpt2-{space}"
    given = {"tau_alpha": "decoder=0", "tau_sigma": {"decoder": 0.3}, "max_length": WINDOW}
    result = measured(directory, "nvreg", model, ["rolling"], **given)
    settings = {"tau_alpha": {"decoder": 0.0}, "tau_sigma": {"decoder": 0.3}}
    described = result["config"]["nvreg"]
    assert described["settings"] == described["resolved"] == settings
    prior = nvreg.Prior.load(directory / model / "nvreg_prior.safetensors")
    assert described["prior"] == prior.fingerprint
    evaluated = run(
        *("evaluate", directory / model, "--task", "language-modelling", "--data", directory / "text.jsonl"),
        *("--tau-alpha", "decoder=0", "--tau-sigma", "decoder=0.3", "--metric", "bits-per-byte"),
        *("--set", f"evaluation.window={WINDOW}", "--set", f"evaluation.stride={WINDOW}"),
        *("--set", "evaluation.prefix=auto", "--output", "-", "--quiet"),
    )
    written = json.loads(evaluated.stdout)
    score = written["domains"][0]["metrics"]["bits-per-byte"]["value"]
    value = result["results"]["local_rolling"]["bits_per_byte,none"]
    assert value == pytest.approx(score, rel=1e-6)
    assert not math.isclose(value, FIGURES["bits_per_byte"], rel_tol=1e-4)
    assert written["model"]["fingerprint"] == described["fingerprint"]


@pytest.mark.parametrize("space", ["inputs", "heads"])
def test_every_role_of_an_encoder_decoder_has_a_setting_of_its_own(directory, space):
    model, task = f"marian-{space}", ["choice"]
    plain = answers(measured(directory, "hf", "marian", task))
    text = "encoder=inf;cross=0;decoder=inf"
    result = measured(directory, "nvreg", model, task, tau_alpha=text)
    assert result["config"]["nvreg"]["settings"] == {"tau_alpha": {"cross": 0.0}}
    assert answers(result) != plain


def test_prior_weights_and_noise_shares_are_solved_for(directory):
    text = {"prior_data": str(directory / "text.jsonl"), "column": "text"}
    result = measured(directory, "nvreg", "gpt2", ["choice"], prior_weight=0.1, noise_share=0.2, **text)
    described = result["config"]["nvreg"]
    assert described["settings"] == {"prior_weight": 0.1, "noise_share": 0.2}
    assert set(described["resolved"]) == {"tau_alpha", "tau_sigma"}


def test_one_cache_for_two_settings_and_the_pretrained_model_never_mixes(directory, tmp_path):
    cache, task = tmp_path / "cache", ["choice"]
    plain = answers(measured(directory, "hf", "gpt2", task, cache))
    first = answers(measured(directory, "nvreg", "gpt2-inputs", task, cache, **SETTING))
    second = answers(measured(directory, "nvreg", "gpt2-inputs", task, cache, tau_sigma=0.5))
    assert plain != first != second != plain
    assert first == answers(measured(directory, "nvreg", "gpt2-inputs", task, **SETTING))
    assert second == answers(measured(directory, "nvreg", "gpt2-inputs", task, tau_sigma=0.5))
    (file,) = tmp_path.glob("cache*.db")
    counts = rows(file)
    assert len(counts) == 3
    assert len(set(counts.values())) == 1
    assert answers(measured(directory, "nvreg", "gpt2-inputs", task, cache, **SETTING)) == first
    assert rows(file) == counts
    measured(directory, "nvreg", "gpt2-inputs", task, cache, **SETTING, max_length=WINDOW)
    assert len(rows(file)) == 4


def rows(file):
    """Return how many answers each table of a cache has."""
    with sqlite3.connect(file) as database:
        tables = [name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return {name: database.execute(f'SELECT COUNT(*) FROM "{name}"').fetchone()[0] for name in tables}


def test_answers_of_a_cache_are_found_again(directory, tmp_path, monkeypatch):
    cache, task = tmp_path / "cache", ["choice"]
    first = answers(measured(directory, "nvreg", "gpt2-inputs", task, cache, **SETTING))
    from nvreg.harness import NVRegLM

    def fail(*_, **__):
        raise AssertionError("expected the answer from the cache")

    monkeypatch.setattr(NVRegLM, "_loglikelihood_tokens", fail)
    assert answers(measured(directory, "nvreg", "gpt2-inputs", task, cache, **SETTING)) == first


def test_the_command_runs_the_harness_and_passes_its_options_on(directory, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["nvreg"])
    result = run(
        *("lm-eval", directory / "gpt2-inputs", "--tau-sigma", "decoder=0.3", "--tasks", "local_choice"),
        *("--include_path", directory / "tasks", "--device", "cpu", "--output_path", tmp_path),
        *("--model", "hf", "--model_args", "dtype=float32,max_length=16"),
    )
    assert result.exit_code == 0, result.output
    (written,) = tmp_path.rglob("results*.json")
    config = json.loads(written.read_text())["config"]
    assert config["model"] == "nvreg"
    assert config["model_args"]["max_length"] == 16
    assert config["nvreg"]["settings"] == {"tau_sigma": {"decoder": 0.3}}


@pytest.mark.parametrize(
    ("model", "arguments", "message"),
    [
        ("gpt2", {}, "expected a directory that nvreg convert or nvreg export wrote, or a setting"),
        ("gpt2", {"tau_sigma": 1}, "expected --prior FILE or --prior-data FILE with a setting"),
        ("gpt2", {"prior_data": "a.txt"}, "expected column=NAME with prior_data=FILE"),
        ("gpt2-heads", {"space": "inputs"}, "expected a prior of 'inputs' space, got one of 'heads' space"),
        ("gpt2-heads", {"space": "head"}, "space: expected one of inputs, heads, got 'head'"),
        ("gpt2-inputs", {"prior_weight": 0.1}, "expected --prior-data FILE, the text on which"),
        ("gpt2-inputs", {"tau_sigma": "cross=1"}, "cross"),
        ("gpt2-inputs", {"tau_sigma": "cross=1;cross=2"}, "tau_sigma: expected a number, or ROLE=NUMBER"),
    ],
)
def test_mistakes_are_one_line(directory, model, arguments, message):
    from nvreg.harness import NVRegLM

    with pytest.raises(nvreg.UserError) as caught:
        NVRegLM(str(directory / model), device="cpu", **arguments)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
