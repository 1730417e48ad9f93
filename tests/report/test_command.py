"""``nvreg report`` as a command."""

import json
import shutil

import pytest
import typer
from typer.testing import CliRunner

from nvreg.cli.report import report
from nvreg.errors import UserError

pytestmark = pytest.mark.usefixtures("undrawn")


@pytest.fixture
def invoke():
    app = typer.Typer()
    app.command()(report)
    return lambda *arguments: CliRunner().invoke(app, [str(each) for each in arguments])


def test_the_page_is_printed_plainly_outside_a_terminal(small, invoke):
    directory = small.write()
    result = invoke(directory)
    assert result.exit_code == 0
    assert (directory / "tables/report.md").read_text() in result.stdout


def test_every_directory_is_reported_with_the_given_protocols_and_formats(small, tmp_path, invoke):
    directories = [small.write(), shutil.copytree(small.directory, tmp_path / "another")]
    result = invoke(*directories, "--protocol", "in-domain", "--protocol", "oracle", "--format", "csv, latex")
    assert result.exit_code == 0
    assert result.stdout.startswith("# 2 runs\n")
    assert "# synthetic" not in result.stdout
    assert "oracle" in result.stdout
    assert "in-domain-tolerance" not in result.stdout
    for directory in directories:
        assert (directory / "tables/scores.csv").is_file()
        assert (directory / "tables/report.tex").is_file()
        assert not (directory / "tables/report.md").exists()


def test_runs_without_a_table_of_all_are_printed_one_after_the_other(small, tmp_path, invoke):
    directories = [small.write(), shutil.copytree(small.directory, tmp_path / "another")]
    manifest = directories[1] / "manifest.json"
    document = json.loads(manifest.read_text())
    document["metrics"] = dict.fromkeys(document["metrics"], "another signature")
    manifest.write_text(json.dumps(document))
    result = invoke(*directories)
    assert result.exit_code == 0
    assert result.stdout.count("# synthetic") == 2
    assert "no table of all runs" in result.stderr


def test_a_method_without_examples_is_refused(small, invoke):
    for option in (("--method", "nv"), ("--seed", "0")):
        result = invoke(small.write(), *option)
        assert isinstance(result.exception, UserError)
        assert "only with --examples" in str(result.exception)
    assert not (small.directory / "tables").exists()


def test_an_unknown_method_of_examples_is_refused(small, invoke):
    result = invoke(small.write(), "--examples", "2", "--method", "sink")
    assert "--method: expected one of the run, nv, got 'sink'" in str(result.exception)
    assert not (small.directory / "tables").exists()


def test_a_directory_for_the_table_of_one_run_is_refused(small, tmp_path, invoke):
    result = invoke(small.write(), "--output", tmp_path / "all")
    assert "expected several directories with --output" in str(result.exception)
    assert not (small.directory / "tables").exists()


def test_the_page_is_opened_in_a_browser_when_asked_for(small, tmp_path, invoke, monkeypatch):
    opened = []
    monkeypatch.setattr("webbrowser.open", lambda address: opened.append(address) or len(opened) < 2)
    directory = small.write()
    assert invoke(directory, "--format", "html", "--open").exit_code == 0
    assert opened == [(directory / "report.html").as_uri()]
    both = [directory, shutil.copytree(directory, tmp_path / "another")]
    result = invoke(*both, "--format", "html", "--output", tmp_path / "all", "--open")
    assert opened[1:] == [(tmp_path / "all" / "combined.html").as_uri()]
    assert "no browser found; the page is" in result.stderr
    refused = invoke(directory, "--format", "csv", "--open")
    assert "expected html among the formats with --open, got csv" in str(refused.exception)
