"""``nvreg report`` as a command."""

import shutil

import pytest
import typer
from typer.testing import CliRunner

from nvreg.cli.report import report


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
    result = invoke(*directories, "--protocol", "in-domain", "--protocol", "oracle", "--format", "csv")
    assert result.exit_code == 0
    assert result.stdout.count("# synthetic") == 2
    assert "oracle" in result.stdout
    assert "in-domain-tolerance" not in result.stdout
    for directory in directories:
        assert (directory / "tables/scores.csv").is_file()
        assert not (directory / "tables/report.md").exists()
