"""Pages as files, in formats that are registered."""

import pytest
from matplotlib.figure import Figure
from typer.testing import CliRunner

from nvreg.cli import app
from nvreg.document import Table
from nvreg.report import FORMATS
from nvreg.report.analysis import analyse
from nvreg.report.writing import HTML, Format, Page, write_combined, write_report


@pytest.fixture
def page() -> Page:
    foreign = Table(["example"], [["a | b * c_d <i> `e` [f] \\ $g$ 10% & #"]], labels=0)
    blocks = ["# A & B", "It has `code`.", Table(["selection"], [["in-domain"]]), foreign]
    return Page("page", "a <title>", blocks, {}, {"one": Figure((1, 1)), "two": Figure((1, 1))})


def as_html(page: Page) -> str:
    (content,) = HTML.files(page).values()
    return content


def test_html_is_one_file_with_an_escaped_title(page):
    html = as_html(page)
    assert "<title>a &lt;title&gt;</title>" in html
    assert "<code>code</code>" in html
    assert html.count("<table>") == 2


def test_foreign_text_is_shown_as_it_is(page):
    html = as_html(page)
    assert "a | b * c_d &lt;i&gt; `e` [f] \\ $g$ 10% &amp; #" in html
    assert "<i>" not in html


@pytest.fixture
def words(monkeypatch):
    """A format that is registered by one line: how many words each table and text has."""

    def count(page: Page) -> dict[str, str]:
        return {f"{page.name}.txt": "\n".join(str(len(str(each).split())) for each in page.blocks)}

    monkeypatch.setitem(FORMATS, "words", Format(count))


@pytest.mark.usefixtures("words", "undrawn")
def test_a_format_is_added_by_one_line(small, tmp_path):
    analysis = analyse(small.write())
    page = write_report(analysis, ["words"])
    written = (small.directory / "tables/report.txt").read_text().split()
    assert sum(map(int, written)) > 100
    assert not (small.directory / "tables/report.md").exists()
    write_combined([analysis, analysis], output=tmp_path / "all")
    assert {"combined.txt", "combined.md"} <= {path.name for path in (tmp_path / "all").iterdir()}
    assert page.startswith("# synthetic")
    result = CliRunner().invoke(app, ["report", str(small.directory), "--format", "csv,wrods"])
    assert result.exit_code == 2
    assert (
        "format: expected one of markdown, latex, csv, html, words, got 'wrods', did you mean"
        in result.stderr
    )


def test_formats_are_in_the_help():
    assert "markdown, latex, csv, html." in CliRunner().invoke(app, ["report", "--help"]).stdout
