"""A user's mistake is one line and exit code 2, and leaves nothing behind."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.running import estimate_prior, run


def sweep(*overrides: str):
    return lambda files: [
        "sweep",
        "--config",
        files["experiment"],
        "--output",
        files["output"],
        *(part for override in overrides for part in ("--set", override)),
    ]


def convert(*options: str):
    return lambda files: ["convert", files["model"], files["output"], "--prior", files["prior"], *options]


MISTAKES = {
    "missing experiment": (
        lambda files: ["sweep", "--config", "missing.yaml"],
        "missing.yaml: expected an experiment file",
    ),
    "missing data file": (
        sweep("data.in_domain.test.files=missing.jsonl"),
        "missing.jsonl: expected a file, there is none",
    ),
    "missing training file": (
        sweep("data.in_domain.train.files=missing.jsonl"),
        "missing.jsonl: expected a file",
    ),
    "missing model": (sweep("model.path=./missing"), "expected a model directory"),
    "missing prior": (sweep("prior={path: missing.safetensors}"), "missing.safetensors"),
    "unknown key": (sweep("sweep.trails=3"), "sweep.trails: unknown key, did you mean 'trials'?"),
    "empty data file": (sweep("data.in_domain.test.files=empty.jsonl"), "expected at least one record"),
    "data that is no JSON": (
        sweep("data.in_domain.test.files=broken.jsonl"),
        "broken.jsonl, line 2: expected JSON, got 'not JSON' (Expecting value)",
    ),
    "missing column": (sweep("data.columns.target=fr"), "expected a column 'fr', got"),
    "unsupported architecture": (sweep("model.path=deberta"), "deberta-v2"),
    "prior of another model": (sweep("prior={path: other.safetensors}"), "expected a prior of this model"),
    "negative tau_sigma": (
        sweep("sweep.space.tau_sigma.encoder=[-1, 0]"),
        "expected a number from 0 to 1e15, got -1",
    ),
    "role the model has not": (
        sweep("sweep.space.tau_sigma.head=[0, 1]"),
        "sweep.space.tau_sigma: expected one of encoder, cross, decoder, got 'head'",
    ),
    "layers the model has not": (
        sweep("sweep.space.tau_mu={cross: {layers: [1, 1, 0.5]}}"),
        "sweep.space.tau_mu.cross: expected 2 values, one a layer, got 3",
    ),
    "a metric of another task": (
        sweep("evaluation.metrics=[accuracy]"),
        "expected some of nll, perplexity",
    ),
    "workers of one process": (
        lambda files: [*sweep()(files), "--workers", "2"],
        "expected --workers, --cpus-per-worker, --gpus-per-worker and --ray-address only with --executor ray",
    ),
    "weights to solve for without training text": (
        sweep(
            "data.in_domain.train=null", "prior={kind: gaussian}", "sweep.space={prior_weight: [0.1, 0.2]}"
        ),
        "expected data.in_domain.train, which prior_weight is calibrated on",
    ),
    "unreachable hub model": (sweep("model.path=organisation/model"), "local directory"),
    "unreachable hub data": (
        sweep("data.out_of_domain.0.test={hub: organisation/data, split: test}"),
        "organisation/data: expected a data set of the hub",
    ),
    "output of another experiment": (
        lambda files: [*sweep("name=other")(files), "--output", files["finished"]],
        "expected an output directory of this experiment",
    ),
    "a method that is misspelt": (
        lambda files: [*sweep()(files), "--method", "nw-heads"],
        "--method: expected one of the file, nv, got 'nw-heads'",
    ),
    "export of a method that is misspelt": (
        lambda files: [
            "export",
            files["finished"],
            files["output"],
            "--protocol",
            "in-domain",
            "--method",
            "nvv",
        ],
        "--method: expected one of the run, nv, got 'nvv', did you mean 'nv'?",
    ),
    "export for a domain that is misspelt": (
        lambda files: [
            "export",
            files["finished"],
            files["output"],
            "--protocol",
            "in-domain",
            "--domain",
            "awy",
        ],
        "--domain: expected one of home, away, got 'awy', did you mean 'away'?",
    ),
    "export without the domain": (
        lambda files: ["export", files["finished"], files["output"], "--protocol", "leave-one-domain-out"],
        "--domain: expected one of away, got nothing; leave-one-domain-out chooses for each by itself",
    ),
    "export by a protocol that is misspelt": (
        lambda files: ["export", files["finished"], files["output"], "--protocol", "in-domian"],
        "got 'in-domian', did you mean 'in-domain'?",
    ),
    "convert in a space that is misspelt": (
        convert("--space=head"),
        "--space: expected one of inputs, heads, got 'head', did you mean 'heads'?",
    ),
    "convert with a role that is misspelt": (
        convert("--tau-mu=encodr=0.5"),
        "tau_mu: expected one of encoder, cross, decoder, got 'encodr', did you mean 'encoder'?",
    ),
    "schema of a kind that is misspelt": (
        lambda files: ["schema", "--kind", "experimnt"],
        "got 'experimnt', did you mean 'experiment'?",
    ),
    "architectures in a format that is misspelt": (
        lambda files: ["architectures", "--format", "jsn"],
        "--format: expected one of text, markdown, json, got 'jsn', did you mean 'json'?",
    ),
    "executor that is misspelt": (
        lambda files: [*sweep()(files), "--executor", "rey"],
        "--executor: expected one of local, ray, got 'rey', did you mean 'ray'?",
    ),
    "report of no run": (
        lambda files: ["report", files["model"]],
        "expected a directory written by nvreg sweep",
    ),
    "convert with negative tau_sigma": (
        convert("--tau-sigma=-1"),
        "tau_sigma: expected a number from 0 to 1e15",
    ),
    "convert with an unknown role": (convert("--tau-mu=head=0.5"), "encoder, cross, decoder"),
    "convert with no number": (convert("--tau-mu=encoder"), "--tau-mu: expected a number, or ROLE=NUMBER"),
    "convert with a role twice": (
        convert("--tau-alpha=cross=1,cross=2"),
        "--tau-alpha: expected a number, or ROLE=NUMBER of each role once",
    ),
    "convert with two priors": (
        convert("--prior-data=x.jsonl"),
        "expected --prior FILE, or --prior-data FILE",
    ),
    "convert with a weight and no text": (
        convert("--prior-weight=0.1"),
        "expected --prior-data FILE with --column",
    ),
    "convert with a weight and its solution": (
        convert("--prior-weight=0.1", "--tau-alpha=cross=2"),
        "expected prior_weight or tau_alpha, got both",
    ),
    "convert with all weight on the prior": (
        convert("--prior-weight=1"),
        "prior_weight: expected a number from 0 to below 1",
    ),
    "convert over files": (
        lambda files: ["convert", files["model"], files["finished"], "--prior", files["prior"]],
        "expected a new or empty directory",
    ),
    "convert onto a file": (
        lambda files: ["convert", files["model"], files["prior"], "--prior", files["prior"]],
        "expected a new or empty directory",
    ),
    "convert with another's prior": (
        lambda files: ["convert", files["model"], files["output"], "--prior", files["other"]],
        "expected a prior of this model",
    ),
    "prior into no directory": (
        lambda files: ["prior", files["model"], "no/such/p", "--data", "x", "--column", "en"],
        "expected a file to write in a directory that exists",
    ),
    "prior over a file of something else": (
        lambda files: ["prior", files["model"], files["text"], "--data", files["text"], "--column", "en"],
        "train.jsonl, got another file; choose another name, or add --force to replace it",
    ),
    "fisher over a prior": (
        lambda files: ["fisher", files["model"], files["prior"], "--data", files["text"], "--column", "en"],
        "safetensors, got another file; choose another name, or add --force to replace it",
    ),
    "a table of runs among other files": (
        lambda files: ["report", files["finished"], files["finished"], "--output", files["finished"].parent],
        "expected a new or empty directory, or one that nvreg wrote",
    ),
    "a comparison among other files": (
        lambda files: ["compare", files["finished"], files["finished"], "--output", files["finished"].parent],
        "expected a new or empty directory, or one that nvreg wrote",
    ),
    "prior without the column": (
        lambda files: [
            "prior",
            files["model"],
            files["output"],
            "--data",
            files["text"],
            "--column",
            "fr",
            "--target-column",
            "de",
        ],
        "expected a column 'fr', got",
    ),
}


@pytest.fixture(scope="module")
def files(directory, prior) -> dict[str, Path]:
    """Things to make mistakes with, beside the tiny experiment."""
    from transformers import DebertaV2Config, DebertaV2Model

    from tests.tiny import tiny_marian

    (directory / "empty.jsonl").touch()
    (directory / "broken.jsonl").write_text('{"en": "a", "de": "b"}\nnot JSON\n')
    deberta = DebertaV2Config(
        vocab_size=8, hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8
    )
    DebertaV2Model(deberta).save_pretrained(directory / "deberta")
    for part in tiny_marian(seed=5):
        part.save_pretrained(directory / "other")
    finished = directory / "finished"
    assert (
        run("sweep", "--config", directory / "tiny.yaml", "--output", finished, "--trials", 1).exit_code == 0
    )
    return {
        "experiment": directory / "tiny.yaml",
        "model": directory / "model",
        "text": directory / "home/train.jsonl",
        "prior": prior,
        "other": estimate_prior(directory, "other"),
        "finished": finished,
    }


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_line_and_exit_code_2(files, tmp_path, monkeypatch, mistake):
    monkeypatch.chdir(tmp_path)
    arguments, message = MISTAKES[mistake]
    result = run(*arguments(files | {"output": tmp_path / "output"}))
    line = result.stderr.splitlines()[-1]
    assert message in line
    assert result.exit_code == 2
    assert "Traceback" not in result.output
    assert not (tmp_path / "output").exists()


@pytest.mark.parametrize("kind", ["a link", "the working directory", "a mount"])
@pytest.mark.parametrize("command", [["convert", "model"], ["export", "run", "--protocol", "in-domain"]])
def test_an_empty_directory_that_no_other_can_replace_is_refused_before_the_work(
    kind, command, tmp_path, monkeypatch
):
    (out := tmp_path / "out").mkdir()
    match kind:
        case "a link":
            (tmp_path / "link").symlink_to(out)
            out = tmp_path / "link"
        case "the working directory":
            monkeypatch.chdir(out)
            out = Path()
        case "a mount":
            monkeypatch.setattr(Path, "is_mount", lambda path: path == out)
    result = run(*command, out)
    assert result.exit_code == 2
    assert "expected a new directory, or an empty one that can be replaced, got " in result.stderr


@pytest.mark.slow
def test_a_mistake_at_the_shell_prints_nothing_but_its_line(files, tmp_path):
    command = [
        Path(sys.executable).with_name("nvreg"),
        *sweep("sweep.space.tau_mu={cross: {layers: [1, 1, 0.5]}}")(files | {"output": tmp_path / "output"}),
    ]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 2
    assert result.stdout == ""
    first, second = result.stderr.splitlines()
    assert first == "loading model and data"
    assert second.startswith("nvreg: sweep.space.tau_mu.cross: expected 2 values, one a layer, got 3")
