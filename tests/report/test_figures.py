"""What is drawn."""

import numpy as np
import pytest

from nvreg.report import analyse
from nvreg.report.figures import changes_figure, png, svg


def draw(synthetic, method="nv"):
    run, selections = analyse(synthetic.write())
    return changes_figure(run, method, selections)


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
    assert "out of domain (lower is better" in axes.get_ylabel()


def test_choices_are_ringed_and_numbered(small):
    figure = draw(small)
    assert len(points(figure, "chosen (trial)")) == 2 * 2 + 2
    assert len(points(figure, "oracle only")) == 2
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
