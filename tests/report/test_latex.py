"""The tables of a report in a paper: pdflatex sets them, nothing sticks out, nothing is another character."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from nvreg.document import Cell, Marked, Table, latex
from nvreg.report.analysis import analyse
from nvreg.report.writing import write_combined, write_report
from nvreg.text import in_latex
from tests.report.conftest import SyntheticRun

PAPER = r"""\documentclass[twocolumn]{article}
\usepackage{booktabs}\usepackage{graphicx}\usepackage[T1]{fontenc}
\begin{document}
\input{%s}
\end{document}
"""

PDFLATEX = shutil.which("pdflatex")
compiles = pytest.mark.skipif(
    PDFLATEX is None, reason="no pdflatex is installed (apt install texlive-latex-recommended)"
)


def compiled(tables: str, place: Path) -> str:
    """Set a paper with some tables, and return what pdflatex says of it."""
    (place / "tables.tex").write_text(tables)
    (place / "paper.tex").write_text(PAPER % "tables")
    done = subprocess.run(
        [PDFLATEX, "-interaction=nonstopmode", "-halt-on-error", "paper.tex"],
        cwd=place, capture_output=True, text=True, errors="replace",
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:]
    return done.stdout


@pytest.fixture
def analyses(tmp_path) -> list:
    """Two runs with six methods on six domains."""
    found = []
    domains = {name: ("validation", "test") for name in ("news_1", *(f"domain-{n}" for n in range(5)))}
    methods = ("nv", "nv-heads", "temperature", "sink", "weight-noise", "low-rank")
    space = {"temperature": "temperature", "sink": "sink_logit", "weight-noise": "scale", "low-rank": "keep"}
    for name in ("a", "b & c"):
        run = SyntheticRun(tmp_path / name, metric="nll", metrics=("nll",), domains=domains, planned=12)
        run.methods = {
            method: {
                "space": {space[method]: [0.5, 1]} if method in space else {"tau_sigma": {"cross": [0, 1]}}
            }
            for method in methods
        }
        run.add_nll(**dict.fromkeys(domains, 2.0))
        for number in range(12):
            run.add_nll(
                **dict.fromkeys(domains, 2 - number / 40), method=methods[number % 6], strength=number / 20,
            )  # fmt: skip
        found.append(analyse(run.write()))
    return found


@compiles
@pytest.mark.slow
def test_tables_of_a_run_and_of_several_fit_a_paper_of_two_columns(analyses, tmp_path):
    write_report(analyses[0], ["latex"])
    write_combined(analyses, ["latex"], tmp_path / "both")
    for path in (analyses[0].run.directory / "tables/report.tex", tmp_path / "both/combined.tex"):
        said = compiled(path.read_text(), tmp_path)
        assert "Overfull \\hbox" not in said
        assert "Float too large" not in said
        assert "undefined" not in said


@compiles
@pytest.mark.slow
def test_texts_are_set_as_they_are(tmp_path):
    hostile = r"""\input{/etc/passwd} $x$ 100% #1 a_b {c} ~ ^ `q' "r" -- --- << >> ,, ?` <tag> & | → ≤ ± *"""
    table = Table(
        ["[odd", "text"],
        [["*a", hostile], ["[b]", Marked([(hostile * 3, True)])], ["c", Cell("-1", hostile)]],
    )
    compiled(latex([table]), tmp_path)
    if shutil.which("pdftotext"):
        text = subprocess.run(
            ["pdftotext", "paper.pdf", "-"], cwd=tmp_path, capture_output=True, text=True
        ).stdout
        assert r"\input{/etc/passwd}" in " ".join(text.split())


def test_what_latex_joins_is_kept_apart():
    assert in_latex("--set") == "-{}-set"
    assert in_latex("<<a>>") == "<{}<a>{}>"
    assert in_latex("a-b < c, d") == "a-b < c, d"
    assert in_latex("`x`") == r"\textasciigrave{}x\textasciigrave{}"


def test_a_table_higher_than_a_page_goes_on_where_the_selection_changes():
    rows = [[f"selection {n // 20}", str(n), Cell("1.0", "+0.1", "{+0.0, +0.2}")] for n in range(60)]
    parts = latex([Table(["selection", "method", "talks"], rows, 2)]).split(r"\begin{table}")[1:]
    assert [len(re.findall(r"\[2pt\]", part)) for part in parts] == [20, 20, 20]
    assert [", continued" in part for part in parts] == [False, True, True]
    assert parts[0].count("selection 0") == 1
    assert parts[1].count("selection 1") == 1


def test_a_wide_table_goes_across_both_columns():
    row = ["a", *[Cell("-1.0")] * 5]
    page = latex([Table(["selection", "a", "b", "c", "d", "e"], [row])])
    assert r"\begin{table*}" in page
    assert r"\begin{tabular}{lrrrrr}" in page
    assert "$-$1.0" in page
