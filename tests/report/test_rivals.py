"""NV against what else was tried."""

import re

import numpy as np
import pytest

from nvreg.report.analysis import analyse
from nvreg.report.tables import rivals_table
from nvreg.report.writing import write_combined, write_report


@pytest.fixture
def build(tmp_path, synthetic, control):
    """Build a run in a directory: a pretrained model, and one trial of each method by its nll."""

    def _build(name: str, pretrained: float, **methods: float):
        run = synthetic(tmp_path / name, metric="nll", metrics=("nll",), planned=len(methods))
        run.methods = dict.fromkeys(methods, run.methods["nv"])
        run.add_nll(**dict.fromkeys(run.domains, pretrained))
        for method, nll in methods.items():
            run.add_nll(**dict.fromkeys(run.domains, nll), method=method)
        return run

    return _build


def table_of(*runs):
    analyses = {run.directory.name: [analyse(run.write())] for run in runs}
    table = rivals_table("nll", list(runs[0].domains), analyses)
    return None if table is None else table.set_index(["run", "method", "protocol", "domain"])


def test_nv_is_compared_with_each_method_under_the_same_protocol(build):
    table = table_of(build("plain", 2.0, nv=1.9, control=1.7))
    assert set(table.index.get_level_values("method")) == {"control"}
    assert set(table.index.get_level_values("protocol")) == {
        "in-domain", "in-domain-tolerance", "leave-one-domain-out", "out-of-domain-validation",
    }  # fmt: skip
    cell = table.loc["plain", "control", "in-domain", "talks"]
    assert (cell["other"], cell["score"]) == (pytest.approx(1.7), pytest.approx(1.9))
    assert cell["difference"] == pytest.approx(0.2)
    assert 0 < cell["low_reselected"] <= cell["high_reselected"]
    assert cell["p_holm"] < 0.001


def test_other_models_are_rivals_as_they_came_and_with_nv(build):
    table = table_of(build("plain", 2.0, nv=1.9), build("mvcr", 1.8, nv=1.5))
    assert set(table.index.droplevel(["protocol", "domain"])) == {("mvcr", "pretrained"), ("mvcr", "nv")}
    assert table.loc["mvcr", "pretrained", "in-domain", "talks"]["difference"] == pytest.approx(0.1)
    assert table.loc["mvcr", "nv", "in-domain", "talks"]["difference"] == pytest.approx(0.4)


def test_nv_is_that_of_the_first_group_that_tried_it(build):
    table = table_of(build("plain", 2.0, control=1.9), build("mvcr", 1.8, nv=1.5))
    assert table.loc["plain", "pretrained", "in-domain", "talks"]["difference"] == pytest.approx(-0.5)
    assert table.loc["plain", "control", "in-domain", "talks"]["difference"] == pytest.approx(-0.4)
    assert "mvcr" not in table.index


def test_without_nv_or_without_a_rival_there_is_no_table(build):
    assert table_of(build("alone", 2.0, nv=1.9)) is None
    assert table_of(build("without", 2.0, control=1.9)) is None


def test_seeds_are_averaged_on_both_sides(build):
    run = build("plain", 2.0, nv=1.9, control=1.7)
    run.seeds = (42, 43)
    run.add_nll(**dict.fromkeys(run.domains, 1.8), seed=43)
    run.add_nll(**dict.fromkeys(run.domains, 1.5), seed=43, method="control")
    cell = table_of(run).loc["plain", "control", "in-domain", "talks"]
    assert (cell["other"], cell["score"]) == (pytest.approx(1.6), pytest.approx(1.85))
    assert cell["deviation"] == pytest.approx(np.std([1.9, 1.8], ddof=1))


@pytest.mark.usefixtures("undrawn")
def test_the_pages_ask_whether_something_else_would_have_done(build, tmp_path):
    plain, mvcr = build("plain", 2.0, nv=1.9, control=1.7), build("mvcr", 2.1, nv=2.0)
    analyses = [analyse(run.write()) for run in (plain, mvcr)]
    question = "## Would something else have done as well?"
    page = write_report(analyses[0])
    assert f"{question} nv against it: nll (lower is better)" in page
    assert "- nv against control (in-domain): improves no domain; worsens news, talks, books." in page
    assert (plain.directory / "tables" / "rivals.csv").is_file()
    assert question not in write_report(analyses[1], ())
    combined = write_combined(analyses)
    assert f"{question} nv on plain against it: nll (lower is better)" in combined
    assert "- nv on plain against plain control (in-domain): improves no domain; worsens" in combined
    both = "(in-domain, in-domain-tolerance)"
    assert f"mvcr pretrained {both}, mvcr nv {both}: improves news, talks, books;" in combined


def test_cells_are_differences_with_the_interval_that_repeats_both_choices(build):
    run = build("plain", 2.0, nv=1.9, control=1.7)
    text = write_report(analyse(run.write()), formats=())
    table = text.split("### Chosen by in-domain: nv minus each\n\n")[1].split("\n\n")[0].splitlines()
    header, _, row = ([cell.strip() for cell in line.strip("|").split("|")] for line in table)
    assert header == ["against", "news (in-domain)", "talks", "books"]
    assert row[0] == "control"
    assert re.fullmatch(r"\+0\.200 \{\+0\.1\d\d, \+0\.2\d\d\} ✗", row[2])
    not_applicable = text.split("### Chosen by out-of-domain-validation")[1].split("### ")[0]
    assert "| n/a" in not_applicable
