"""nvreg try, from a model and data to a report."""

import sys
from pathlib import Path

import pytest

from nvreg.cli.options import open_in_browser
from nvreg.config.loading import read_yaml
from tests.cli.running import run
from tests.tiny import write_corpus


@pytest.fixture
def place(tiny_experiment, tmp_path, monkeypatch) -> Path:
    """A working directory with a tiny model and its corpus."""
    monkeypatch.chdir(tmp_path)
    (write_corpus(tmp_path) / "model").symlink_to(tiny_experiment.parent / "model")
    return tmp_path


@pytest.mark.usefixtures("undrawn")
def test_one_command_leads_to_a_report_and_continues_what_is_begun(place):
    quick = ("evaluation.metrics=[nll]", "selection.metric=nll", "sweep.trials=1", "sweep.seed=3")
    asked = ["model", "--in-domain", "home", "--out-of-domain", "away", "--no-open"]
    asked += [part for override in quick for part in ("--set", override)]
    tried = run("try", *asked)
    assert tried.exit_code == 0, tried.output
    assert "drafting the experiment" in tried.stderr
    assert "4 of 4 trials completed" in tried.stderr
    assert "written to try-model/results/report.html; more settings: nvreg sweep --config" in tried.stderr
    assert "pretrained" in tried.stdout
    written = read_yaml((place / "try-model/experiment.yaml").read_text())
    assert written["evaluation"]["generation"]["num_beams"] == 1
    assert written["output"] == "try-model/results"
    assert (place / "try-model/results/report.html").is_file()

    trials = (place / "try-model/results/trials.jsonl").read_text()
    (place / "try-model/results/report.html").unlink()
    again = run("try", *asked)
    assert again.exit_code == 0, again.output
    assert "drafting the experiment" not in again.stderr
    assert (place / "try-model/results/trials.jsonl").read_text() == trials
    assert (place / "try-model/results/report.html").is_file()

    other = run("try", "model", "--in-domain", "away", "--out-of-domain", "home", "--no-open")
    assert other.exit_code == 2
    assert "expected try-model/experiment.yaml to be written for this model and these data" in other.stderr


def test_a_directory_of_something_else_is_left_alone(place):
    (place / "try-model").mkdir()
    (place / "try-model/notes.txt").write_text("mine")
    refused = run("try", "model", "--in-domain", "home", "--out-of-domain", "away")
    assert refused.exit_code == 2
    assert "expected a new or empty directory, got try-model, which is there already" in refused.stderr
    assert [path.name for path in (place / "try-model").iterdir()] == ["notes.txt"]


@pytest.mark.parametrize("is_terminal", [True, False])
def test_a_report_is_opened_where_somebody_looks(tmp_path, monkeypatch, is_terminal):
    opened = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: is_terminal)
    open_in_browser(tmp_path / "a b.html")
    assert opened == ([f"file://{tmp_path}/a%20b.html"] if is_terminal else [])
