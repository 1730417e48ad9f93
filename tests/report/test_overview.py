"""The figure of several runs."""

import numpy as np
import pandas as pd
import pytest

from nvreg.report.figures import svg
from nvreg.report.overview import overview_figure


@pytest.fixture
def table() -> pd.DataFrame:
    rows = [("plain", "pretrained", "pretrained"), ("mvcr", "pretrained", "pretrained")]
    for protocol in ("in-domain", "oracle"):
        rows += [("plain", "nv", protocol), ("plain", "sink", protocol), ("mvcr", "nv", protocol)]
    cells = [
        ("accuracy", *row, domain, 0.5 + place / 100, 0.01 if row[0] == "plain" else np.nan)
        for place, row in enumerate(rows)
        for domain in ("news", "talks")
    ]
    columns = ["metric", "run", "method", "protocol", "domain", "score", "deviation"]
    return pd.DataFrame([*cells, ("nll", *cells[0][1:])], columns=columns)


def test_a_panel_a_domain_and_a_line_a_run_and_method(table):
    figure = overview_figure(table, "accuracy", "news")
    assert [axes.get_title() for axes in figure.axes] == ["news (in domain)", "talks"]
    lines = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert lines == ["plain", "plain + nv", "plain + sink", "mvcr", "mvcr + nv"]
    assert "accuracy on test sets (higher is better)" in figure.get_supxlabel()


def test_marks_are_scores_without_the_oracle_s(table):
    figure = overview_figure(table, "accuracy", "news")
    bars = figure.axes[1].containers
    assert [each.get_label() for each in bars] == ["pretrained", "in-domain"]
    models, chosen = (each.lines[0].get_xdata() for each in bars)
    assert list(models) == pytest.approx([0.5, 0.51])
    assert list(chosen) == pytest.approx([0.52, 0.53, 0.54])
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["pretrained", "in-domain"]


def test_what_does_not_apply_is_left_out_and_the_figure_is_reproducible(table):
    table.loc[(table["method"] == "sink") & (table["domain"] == "talks"), "score"] = np.nan
    figure = overview_figure(table, "accuracy", "news")
    assert len(figure.axes[1].containers[1].lines[0].get_xdata()) == 2
    assert svg(figure) == svg(overview_figure(table, "accuracy", "news"))
