"""A run whose names are markup of every kind is reported as text."""

import csv
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from nvreg.cli import app
from nvreg.text import visible

NAME = (
    '<img src="http://evil.example/a.png"> ![b](http://evil.example/b.png)\n\n# forged | $$ $x$ `c` '
    "\x1b[31m\x07 \u202egnp.exe \x85"
)
DIRECTORY = "=1+1 [c](http:evil.example) $$ \x1b[31m \u202e"


class Page(HTMLParser):
    """What a page of HTML loads, and its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.attributes: list[str] = []
        self.headings: list[str] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        shown = ("data-tip", "aria-label", "data-run", "id")  # nothing loads what they name
        self.attributes += [value or "" for name, value in attrs if name not in shown]
        assert tag not in ("img", "iframe", "object", "embed", "link", "base")

    def handle_data(self, data):
        self.text += data


@pytest.fixture
def hostile(small, tmp_path: Path) -> Path:
    """A run of a hostile name in a directory of another."""
    small.directory = small.write().rename(tmp_path / DIRECTORY)
    file = small.directory / "experiment.yaml"
    experiment = yaml.safe_load(file.read_text())
    file.write_text(yaml.safe_dump(experiment | {"name": NAME}))
    return small.directory


def is_clean(text: str) -> bool:
    return visible(text) == text


@pytest.mark.parametrize("runs", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_hostile_run_is_reported_as_text(runs, hostile, tmp_path):
    together = ["--output", str(tmp_path / "all")] if runs > 1 else []
    result = CliRunner().invoke(app, ["report", *[str(hostile)] * runs, *together])
    assert result.exit_code == 0, result.output
    assert is_clean(result.output)
    written = [path for folder in (hostile, tmp_path / "all") for path in folder.rglob("*") if path.is_file()]
    written = [path for path in written if path.suffix in (".md", ".tex", ".csv", ".html", ".svg")]
    assert {path.suffix for path in written} == {".md", ".tex", ".csv", ".html", ".svg"}
    for path in written:
        text = path.read_text(encoding="utf-8")
        assert is_clean(text), path
        if path.suffix == ".csv":
            cells = [cell for row in csv.reader(text.splitlines()) for cell in row]
            assert not [cell for cell in cells if cell.startswith(("=", "@"))], path
        if path.suffix == ".html":
            page = Page(text)
            assert not [value for value in page.attributes if "evil" in value], path
        if path.suffix == ".md":
            text = re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)  # commands are no links
            assert not re.search(r"^#+ forged|[^\\]<img|[^\\]\]\(http", text, re.MULTILINE), path
    page = Page((hostile / "report.html").read_text(encoding="utf-8"))
    assert (
        '<img src="http://evil.example/a.png"> ![b](http://evil.example/b.png) # forged | $$ $x$ `c`'
        in page.text
    )


def test_a_comparison_of_hostile_runs_is_text(hostile):
    result = CliRunner().invoke(app, ["compare", str(hostile), str(hostile)])
    assert result.exit_code == 0, result.output
    assert is_clean(result.output)
    text = re.sub(r"^```.*?^```$", "", result.output, flags=re.DOTALL | re.MULTILINE)  # commands are no links
    assert re.search(r"[^\\]\]\(http", text) is None


def test_a_mistake_shows_controls(tmp_path):
    result = CliRunner().invoke(app, ["report", str(tmp_path / "\x1b[31m\u202e")])
    assert result.exit_code == 2
    assert is_clean(result.output)
    assert r"\x1b[31m\u202e" in result.output
