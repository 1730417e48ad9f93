from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

import nvreg.demo
from nvreg.cli.demo import demo


@pytest.mark.parametrize(
    ("options", "tasks", "seed"),
    [
        ([], None, 0),
        (["--seed", "7"], None, 7),
        (["--task", "translation", "--task", "summarisation"], ["translation", "summarisation"], 0),
    ],
)
def test_command_passes_directory_tasks_and_seed(
    options: list[str], tasks: list[str] | None, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[Path, list[str] | None, int]] = []
    monkeypatch.setattr(nvreg.demo, "build_demo", lambda *arguments: calls.append(arguments))
    app = typer.Typer()
    app.command()(demo)
    assert CliRunner().invoke(app, ["somewhere", *options]).exit_code == 0
    assert calls == [(Path("somewhere"), tasks, seed)]
