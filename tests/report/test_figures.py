"""What is drawn."""

from itertools import pairwise

import numpy as np
import pandas as pd
import pytest

from nvreg.document import png, svg
from nvreg.report.analysis import analyse
from nvreg.report.figures import changes_figure, forest_figure, overview_figure
from tests.report.test_verdict import table as scores


def draw(synthetic, method="nv"):
    return changes_figure(analyse(synthetic.write()), method)


def labels(figure) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()]


def points(figure, label: str) -> np.ndarray:
    (drawn,) = [each for each in figure.axes[0].collections if each.get_label() == label]
    return np.asarray(drawn.get_offsets())


def test_one_point_a_setting_and_domain(small):
    figure = draw(small)
    assert len(points(figure, "talks")) == len(points(figure, "books")) == 4
    x, y = points(figure, "talks")[3]
    assert (x, y) == (pytest.approx(np.exp(2.4) - np.exp(2)), pytest.approx(np.exp(2.5) - np.exp(3)))
    assert labels(figure)[:2] == ["talks", "books"]


def test_axes_say_what_they_measure(small):
    axes = draw(small).axes[0]
    assert "perplexity on news" in axes.get_xlabel()
    assert "out of domain\n(lower is better" in axes.get_ylabel()


def test_choices_are_ringed_and_numbered(small):
    figure = draw(small)
    assert len(points(figure, "chosen (trial)")) == 2 * 2 + 2
    assert len(points(figure, "upper bound only")) == 2
    assert sorted(text.get_text() for text in figure.axes[0].texts) == ["1", "2", "3", "4"]


def test_a_destroyed_model_does_not_squash_the_rest(small):
    assert draw(small).axes[0].get_xscale() == "linear"
    small.add_nll(news=8.0, talks=9.0, books=9.0)
    axes = draw(small).axes[0]
    assert (axes.get_xscale(), axes.get_yscale()) == ("symlog", "symlog")
    assert "log beyond" in axes.get_xlabel()
    left, right = axes.transAxes.inverted().transform(axes.transData.transform([(-1, 0), (3.7, 0)]))[:, 0]
    assert right - left > 0.15  # 0.0016 on a linear axis


def test_settings_without_a_finite_score_are_not_drawn(small):
    small.lines[1]["metrics"]["talks"]["test"]["perplexity"] = "inf"
    figure = draw(small)
    assert len(points(figure, "talks")) == 3
    assert "3 settings (1 more are not finite)" in figure.axes[0].get_title(loc="left")


def test_the_pretrained_model_alone_can_be_drawn(run):
    run.add_nll(news=2.0, talks=3.0, books=3.0)
    assert png(draw(run)).startswith(b"\x89PNG")


def test_settings_that_change_nothing_can_be_drawn(run):
    run.add_nll(news=2.0, talks=3.0, books=3.0).add_nll(news=2.0, talks=3.0, books=3.0)
    run.lines[1]["metrics"] = run.lines[0]["metrics"]
    assert png(draw(run)).startswith(b"\x89PNG")


def test_a_method_has_its_own_points_over_all_seeds(small, control):
    small.methods, small.seeds = {**small.methods, control: small.methods["nv"]}, (42, 43)
    small.lines[1]["method"] = control
    small.lines[2]["seed"] = 43
    figure = draw(small)
    assert len(points(figure, "talks")) == 3
    assert "3 settings of nv" in figure.axes[0].get_title(loc="left")
    assert len(points(draw(small, control), "talks")) == 1


def test_the_same_figure_is_the_same_file(small):
    figures = [draw(small), draw(small)]
    assert svg(figures[0]) == svg(figures[1])
    assert png(figures[0]) == png(figures[1])
    assert "change in perplexity" in svg(figures[0])


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


def test_names_of_runs_in_the_forest_are_no_mathematics():
    rows = pd.concat(scores(("nv", "in-domain", {}), run=name) for name in ("plain", "a$^2$b"))
    labels = forest_figure("bleu", rows, "news", {}).axes[0].get_yticklabels()
    assert "in-domain · a\\$^2\\$b" in [label.get_text() for label in labels]


def test_a_forest_fits_a_column_of_a_paper_and_draws_one_selection_where_there_is_no_room_for_all():
    protocols = ("in-domain", "in-domain-tolerance", "leave-one-domain-out", "out-of-domain-validation")
    methods = ("nv-heads", "output-temperature", "weight-noise")
    choices = [(method, protocol, {}) for method in methods for protocol in protocols]
    rows = pd.concat(scores(*choices, run=name) for name in ("plain", "tuned"))
    figure = forest_figure("bits-per-character", rows.assign(metric="bits-per-character"), "news", {})
    figure.draw_without_rendering()
    width, height = figure.get_size_inches()
    assert width == 3.3
    assert height < 7
    names = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert {name.split(" · ")[0] for name in names if " · " in name} == {"leave-one-domain-out"}
    label = figure.findobj(lambda each: getattr(each, "get_text", str)().startswith("change in"))[0]
    box = label.get_window_extent()
    assert 0 <= box.x0 < box.x1 <= width * figure.dpi
    ticks = [tick.get_window_extent() for tick in figure.axes[0].get_xticklabels()]
    assert all(one.x1 < other.x0 for one, other in pairwise(sorted(ticks, key=lambda each: each.x0)))
