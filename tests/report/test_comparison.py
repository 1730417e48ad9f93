"""Two runs, paired."""

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from nvreg.cli.compare import compare as compare_command
from nvreg.errors import UserError
from nvreg.report import analyse, write_comparison
from nvreg.report.comparison import compare


@pytest.fixture
def pair(tmp_path, synthetic):
    """Two runs: the second's model is better by 0.1 everywhere, its trial better by another 0.2."""
    runs = []
    for name, nlls in {"a": (2.0, 1.9), "b": (1.9, 1.7)}.items():
        run = synthetic(tmp_path / name, metric="nll", metrics=("nll", "perplexity"), planned=1)
        for nll in nlls:
            run.add_nll(**dict.fromkeys(run.domains, nll))
        runs.append(run)
    return runs


def frame_of(runs):
    _, frames = compare(*(analyse(run.write()) for run in runs))
    return frames["comparison"].set_index(["metric", "method", "protocol", "domain"])


def test_pretrained_models_and_choices_are_compared(pair):
    table = frame_of(pair)
    models = table.loc["nll", "pretrained", "pretrained", "talks"]
    assert (models["other"], models["score"]) == (pytest.approx(2.0), pytest.approx(1.9))
    chosen = table.loc["nll", "nv", "in-domain", "talks"]
    assert (chosen["other"], chosen["difference"]) == (pytest.approx(1.9), pytest.approx(-0.2))
    assert chosen["p"] < 1e-6
    assert chosen["p_holm"] == pytest.approx(3 * chosen["p"])


def test_examples_are_paired(pair):
    """Examples of both runs have the same noise: of their difference nothing is left to resample."""
    cell = frame_of(pair).loc["nll", "pretrained", "pretrained", "talks"]
    assert (cell["low"], cell["high"]) == (pytest.approx(-0.1), pytest.approx(-0.1))


def test_a_choice_is_repeated_in_both_runs(pair):
    pair[0].add_nll(news=1.8999, talks=2.5, books=2.5)
    cell = frame_of(pair).loc["nll", "nv", "in-domain", "talks"]
    assert cell["difference"] == pytest.approx(1.7 - 2.5)
    assert cell["high"] < -0.7
    assert cell["low_reselected"] < -0.7
    assert cell["high_reselected"] > -0.3


def test_a_choice_of_the_pretrained_model_is_shown_with_its_difference(pair):
    pair[1].lines[1]["status"] = "failed"
    text = write_comparison(*(analyse(run.write()) for run in pair))
    (row, *_) = [line for line in text.splitlines() if line.startswith("| in-domain ")]
    assert "1.900 → 1.900 (+0.000 [" in row
    assert "(pretrained)" not in text


def test_only_common_domains_are_compared(pair):
    pair[0].domains = {name: splits for name, splits in pair[0].domains.items() if name != "books"}
    assert set(frame_of(pair).index.get_level_values("domain")) == {"news", "talks"}


def test_other_examples_are_refused_by_domain(pair):
    pair[1].fingerprints = {"talks": "others"}
    with pytest.raises(UserError, match=r"same examples of talks in both runs.*/a and .*/b"):
        frame_of(pair)


def test_runs_with_nothing_in_common_are_refused(pair):
    pair[1].metrics = ("perplexity",)
    pair[0].metrics = ("nll",)
    pair[1].metric = "perplexity"
    with pytest.raises(UserError, match="a metric of one signature"):
        frame_of(pair)


def test_methods_in_both_runs_are_compared_and_single_ones_with_each_other(pair, control):
    pair[1].methods = {control: pair[1].methods["nv"]}
    pair[1].lines[1]["method"] = control
    assert set(frame_of(pair).index.get_level_values("method")) == {"pretrained", "control against nv"}
    pair[0].methods = {**pair[0].methods, **pair[1].methods}
    assert set(frame_of(pair).index.get_level_values("method")) == {"pretrained", "control"}


def test_seeds_of_both_runs_are_averaged(pair):
    for run, better in zip(pair, (1.7, 1.6), strict=True):
        run.seeds = (42, 43)
        run.add_nll(**dict.fromkeys(run.domains, better), seed=43)
    cell = frame_of(pair).loc["nll", "nv", "in-domain", "talks"]
    assert (cell["other"], cell["score"]) == (pytest.approx(1.8), pytest.approx(1.65))
    assert cell["deviation"] == pytest.approx(np.std([1.7, 1.6], ddof=1))


def test_the_comparison_is_printed_and_written(pair, tmp_path):
    app = typer.Typer()
    app.command()(compare_command)
    directories = [str(run.write()) for run in pair]
    result = CliRunner().invoke(
        app, [*directories, "--protocol", "in-domain", "--output", str(tmp_path / "ab")]
    )
    assert result.exit_code == 0
    assert result.stdout.count("2.000 → 1.900 (-0.100 [-0.100, -0.100]") == 3
    assert "out-of-domain-validation" not in result.stdout
    assert (tmp_path / "ab/comparison.md").read_text() in result.stdout
