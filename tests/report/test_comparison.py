"""Two runs paired, and several in one table."""

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from nvreg.cli.compare import compare as compare_command
from nvreg.errors import UserError
from nvreg.report.analysis import analyse
from nvreg.report.comparison import combine, compare
from nvreg.report.writing import write_combined, write_comparison
from tests.report.conftest import write_training


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
    assert chosen["p"] == pytest.approx(1e-4)
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
    pair[1].lines[1]["status"] = "stopped"
    text = write_comparison(*(analyse(run.write()) for run in pair))
    (row, *_) = [line for line in text.splitlines() if line.startswith("| in-domain ")]
    assert "1.900 → 1.900 (+0.000 {" in row
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
    assert set(frame_of(pair).index.get_level_values("method")) == {"pretrained"}  # not measured yet
    pair[0].add_nll(**dict.fromkeys(pair[0].domains, 1.8), method=control)
    assert set(frame_of(pair).index.get_level_values("method")) == {"pretrained", "control"}


def test_a_comparison_says_which_runs_and_which_methods(pair, control):
    pair[1].methods = {control: pair[1].methods["nv"]}
    pair[1].lines[1]["method"] = control
    text = write_comparison(*(analyse(run.write()) for run in pair))
    assert text.startswith(
        f"# {pair[1].directory.name} against {pair[0].directory.name}\n"
    )  # one name for both
    assert "| in-domain                | control against nv |" in text


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
    assert result.stdout.count("2.00 → 1.90 (-0.10 {-0.10, -0.10}) ✓") == 3
    assert "out-of-domain-validation" not in result.stdout
    assert (tmp_path / "ab/comparison.md").read_text() in result.stdout


@pytest.fixture
def build(tmp_path, synthetic):
    """Build a run in a directory: a pretrained model and a trial that is better everywhere, by their nll."""

    def _build(name: str, pretrained: float, better: float, **changes):
        run = synthetic(tmp_path / name, metric="nll", metrics=("nll",), planned=1, **changes)
        for nll in (pretrained, better):
            run.add_nll(**dict.fromkeys(run.domains, nll), seconds=10.0)
        return run

    return _build


def cells(frame, metric="nll"):
    return frame.set_index(["metric", "run", "method", "protocol", "domain"]).loc[metric]


def test_runs_are_rows_named_after_their_directories(build):
    analyses = [
        analyse(build(name, *nll).write()) for name, nll in {"plain": (2, 1.9), "mvcr": (1.8, 1.5)}.items()
    ]
    _, frames = combine(analyses)
    table = cells(frames["combined"])
    assert table.loc["plain", "pretrained", "pretrained", "talks"]["score"] == pytest.approx(2)
    row = table.loc["mvcr", "nv", "in-domain", "talks"]
    assert (row["score"], row["difference"]) == (pytest.approx(1.5), pytest.approx(-0.3))
    assert (row["tried"], row["search_seconds"]) == (1, 10)


def test_seeds_of_one_directory_are_repetitions(build, tmp_path):
    runs = [("plain/seed-1", 2.0, 1.9), ("plain/seed-2", 2.2, 1.9), ("mvcr/seed-1", 1.8, 1.5)]
    _, frames = combine([analyse(build(*run).write()) for run in runs])
    table = cells(frames["combined"])
    model = table.loc["plain", "pretrained", "pretrained", "talks"]
    assert (model["score"], model["deviation"]) == (
        pytest.approx(2.1),
        pytest.approx(np.std([2, 2.2], ddof=1)),
    )
    row = table.loc["plain", "nv", "in-domain", "talks"]
    assert (row["score"], row["difference"]) == (pytest.approx(1.9), pytest.approx(-0.2))
    assert np.isnan(table.loc["mvcr", "nv", "in-domain", "talks"]["deviation"])


def test_only_domains_with_the_same_examples_are_shown(build):
    first, second = build("first", 2, 1.9), build("second", 2, 1.9)
    second.fingerprints = {"talks": "others"}
    _, frames = combine([analyse(run.write()) for run in (first, second)])
    assert set(frames["combined"]["domain"]) == {"news", "books"}
    second.fingerprints = dict.fromkeys(("talks", "books"), "others")
    text = write_combined([analyse(run.write()) for run in (first, second)])
    assert "**Verdict.** Nothing can be said out of domain: no set but news is shown." in text
    second.fingerprints = dict.fromkeys(second.domains, "others")
    assert write_combined([analyse(run.write()) for run in (first, second)]) is None


def test_the_table_is_written_where_asked_for(build, tmp_path):
    analyses = [analyse(build(name, 2, 1.9).write()) for name in ("first", "second")]
    text = write_combined(analyses, output=tmp_path / "all")
    assert "| in-domain                | second |" in text
    assert {path.name for path in (tmp_path / "all").iterdir()} == {
        ".nvreg.json",
        "combined.md",
        "combined.tex",
        "combined.csv",
        "combined.html",
        "rivals.csv",
        "overview.png",
        "overview.svg",
        "overview.pdf",
        "forest.png",
        "forest.svg",
        "forest.pdf",
    }


def test_rows_of_all_runs_stand_together_by_selection(build):
    analyses = [analyse(build(name, 2, 1.9).write()) for name in ("first", "second")]
    _, frames = combine(analyses)
    table = frames["combined"].drop_duplicates(["run", "protocol"])
    assert table[["protocol", "run"]].values.tolist()[:4] == [
        ["pretrained", "first"],
        ["pretrained", "second"],
        ["in-domain", "first"],
        ["in-domain", "second"],
    ]


def test_a_model_as_it_came_has_the_cost_of_its_training(build, tmp_path):
    write_training(tmp_path, 77.5)
    plain, tuned = build("plain", 2, 1.9), build("tuned", 2, 1.9, model=str(tmp_path))
    text = write_combined([analyse(run.write()) for run in (plain, tuned)])
    header, *rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in text.split("## nll")[1].splitlines()
        if line.startswith("| ")
    ]
    assert header[-3:] == ["settings", "search", "training"]
    costs = {tuple(row[:2]): row[-3:] for row in rows}
    assert costs["pretrained", "plain"] == ["", "", ""]
    assert costs["pretrained", "tuned"] == ["", "", "0:01:18"]
    assert costs["in-domain", "tuned"] == ["1", "0:00:10", "0:01:18"]
