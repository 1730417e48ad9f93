from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

import nvreg.demo
from nvreg.cli.demo import demo


@pytest.mark.parametrize(("options", "seed"), [([], 0), (["--seed", "7"], 7)])
def test_command_passes_directory_and_seed(
    options: list[str], seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[Path, int]] = []
    monkeypatch.setattr(nvreg.demo, "build_demo", lambda *arguments: calls.append(arguments))
    app = typer.Typer()
    app.command()(demo)
    assert CliRunner().invoke(app, ["somewhere", *options]).exit_code == 0
    assert calls == [(Path("somewhere"), seed)]
