"""The whole: from a directory to files."""

import subprocess
import sys

import pandas as pd
import pytest

from nvreg.errors import UserError
from nvreg.report.analysis import analyse
from nvreg.report.points import Cloud
from nvreg.report.writing import write_report


def report(directory, protocols=(), formats=None) -> str:
    return write_report(analyse(directory, protocols), formats)


def test_tables_and_figures_are_written(small):
    directory = small.write()
    text = report(directory)
    assert (directory / "tables/report.md").read_text() == text
    assert (directory / "figures/changes.png").read_bytes().startswith(b"\x89PNG")
    assert (directory / "figures/changes.svg").read_text().startswith("<?xml")
    assert r"\toprule" in (directory / "tables/report.tex").read_text()


def test_the_page_is_html_with_its_figure_too(small):
    directory = small.write()
    report(directory)
    html = (directory / "report.html").read_text()
    assert html.count("<table>") == 3
    assert html.count("<figure") == 5
    assert '<th scope="row">leave-one-domain-out</th>' in html
    assert " src=" not in html
    assert html.count("<script>") == 1


def test_the_csv_reads_back_and_agrees_with_the_page(small):
    directory = small.write()
    text = report(directory)
    table = pd.read_csv(directory / "tables/scores.csv")
    assert list(table.columns) == [
        "metric", "method", "protocol", "seed", "domain", "score", "deviation", "difference", "low", "high",
        "low_reselected", "high_reselected", "p", "p_holm", "trial", "setting",
    ]  # fmt: skip
    cell = table.set_index(["metric", "protocol", "domain"]).loc["nll", "in-domain-tolerance", "talks"]
    reselected = f"{{{cell.low_reselected:+.2f}, {cell.high_reselected:+.2f}}}"
    assert f"{cell.score:.2f} ({cell.difference:+.2f} {reselected})" in text
    page = (directory / "report.html").read_text()
    assert (
        f"<li>choice as given [{cell.low:+.3f}, {cell.high:+.3f}]</li><li>p = {cell.p_holm:.3f}</li>" in page
    )


def test_a_report_can_be_repeated_and_is_the_same(small):
    directory = small.write()
    names = [
        "tables/scores.csv",
        "tables/report.tex",
        "figures/changes.svg",
        "figures/changes.png",
        "figures/changes.pdf",
        "figures/forest.svg",
        "report.html",
    ]
    first = report(directory)
    contents = [(directory / name).read_bytes() for name in names]
    assert report(directory) == first
    assert [(directory / name).read_bytes() for name in names] == contents


def test_several_methods_have_a_table_of_means_and_a_figure_each(small, control):
    small.methods = {**small.methods, control: small.methods["nv"]}
    small.lines[4]["method"] = control
    directory = small.write()
    text = report(directory)
    assert set(pd.read_csv(directory / "tables/scores.csv")["method"]) == {"pretrained", "nv", control}
    assert "deviation" in pd.read_csv(directory / "tables/methods.csv")
    assert {path.name for path in (directory / "figures").glob("*.png")} == {
        "changes-nv.png",
        "changes-control.png",
        "forest.png",
    }
    assert "| control " in text


def test_a_method_without_a_completed_setting_has_no_figure(small, control):
    small.methods = {**small.methods, control: small.methods["nv"]}
    small.add_nll(news=2.5, talks=3.5, books=3.5, method=control, status="stopped")
    directory = small.write()
    figures = directory / "figures"
    figures.mkdir()
    earlier = ["changes-control.png", "changes-control.svg", "layers.pdf"]
    for name in [*earlier, "mine.png", "changes-mine.png", "changes-control.txt"]:
        (figures / name).write_text("of an earlier report")
    report(directory)
    assert {path.name for path in figures.iterdir() if path.suffix in (".png", ".txt")} == {
        "changes-nv.png",
        "forest.png",
        "mine.png",
        "changes-mine.png",
        "changes-control.txt",
    }
    assert not any((figures / name).exists() for name in earlier)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "domain,role\nnews,cross\n",
        "domain,role,layer,head,quantity,value\nnews,cross,0,zero,prior_weight,0.5\n",
        "domain,role,layer,head,quantity,value\nnews,hidden,0,0,prior_weight,0.5\n",
        "domain,role,layer,head,quantity,value\nnews,cross,0,0,prior_weight,\n",
    ],
)
def test_a_damaged_table_of_heads_is_refused_by_its_name(small, text):
    directory = small.write()
    (directory / "inspection").mkdir()
    (directory / "inspection" / "inspect.csv").write_text(text)
    with pytest.raises(UserError, match=r"inspect\.csv: expected what nvreg inspect writes, got .*; inspect"):
        report(directory)


def test_prior_weights_of_heads_are_drawn_where_they_were_measured(small):
    directory = small.write()
    (directory / "inspection").mkdir()
    rows = "".join(f"news,cross,{layer},1,prior_weight,0.25\n" for layer in (0, 1))
    (directory / "inspection" / "inspect.csv").write_text(f"domain,role,layer,head,quantity,value\n{rows}")
    (directory / "inspection" / "inspect.md").write_bytes(b"# home with tau_sigma 0.5\n\nd\xe9j\xe0 vu\n")
    report(directory)
    page = (directory / "report.html").read_text()
    assert "cross 1, head 1: 0.2500" in page
    assert "as nvreg inspect measured it in home with tau_sigma 0.5." in page


def test_what_an_upper_bound_alone_chose_is_not_selected(small):
    small.protocols = ("oracle",)
    assert not [point for point in Cloud.of_run(analyse(small.write())).points if point.is_selected]
    small.protocols = ("oracle", "leave-one-domain-out")
    points = Cloud.of_run(analyse(small.write())).points
    chosen = [point.trial for point in points if any("leave-one" in name for name in point.chosen)]
    assert [point.trial for point in points if point.is_selected] == chosen != []


def test_one_protocol_and_one_format(small):
    directory = small.write()
    text = report(directory, protocols=["in-domain"], formats=["csv"])
    assert not (directory / "tables/report.md").exists()
    assert set(pd.read_csv(directory / "tables/scores.csv")["protocol"]) == {"pretrained", "in-domain"}
    assert "oracle" not in text


def test_unknown_protocols_and_formats_are_refused(small):
    directory = small.write()
    with pytest.raises(UserError, match=r"in-domain-tolerance.*got 'best'"):
        report(directory, protocols=["best"])
    with pytest.raises(UserError, match="csv, html, got 'pdf'"):
        report(directory, formats=["csv", "pdf"])
    assert not (directory / "tables").exists()


def test_a_report_needs_no_torch(small):
    directory = small.write()
    script = (
        f"import sys; from pathlib import Path; from nvreg.report.analysis import analyse; "
        "from nvreg.report.writing import write_report; "
        f"write_report(analyse(Path({str(directory)!r}))); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
