"""The command line in this process."""

from pathlib import Path

from typer.testing import CliRunner

from nvreg.cli import make_app


def run(*arguments: object):
    return CliRunner().invoke(make_app(), [str(argument) for argument in arguments])


def estimate_prior(directory: Path, model: str) -> Path:
    out = directory / f"{model}.safetensors"
    text = directory / "home/train.jsonl"
    result = run("prior", directory / model, out, "--data", text, "--column", "en", "--target-column", "de")
    assert result.exit_code == 0, result.output
    return out
