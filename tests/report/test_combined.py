"""Several runs in one table."""

import numpy as np
import pytest

from nvreg.report import analyse, write_combined
from nvreg.report.combined import combined


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
    _, frames = combined(analyses)
    table = cells(frames["combined"])
    assert table.loc["plain", "pretrained", "pretrained", "talks"]["score"] == pytest.approx(2)
    row = table.loc["mvcr", "nv", "in-domain", "talks"]
    assert (row["score"], row["difference"]) == (pytest.approx(1.5), pytest.approx(-0.3))
    assert (row["tried"], row["search_seconds"]) == (1, 10)


def test_seeds_of_one_directory_are_repetitions(build, tmp_path):
    runs = [("plain/seed-1", 2.0, 1.9), ("plain/seed-2", 2.2, 1.9), ("mvcr/seed-1", 1.8, 1.5)]
    _, frames = combined([analyse(build(*run).write()) for run in runs])
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
    _, frames = combined([analyse(run.write()) for run in (first, second)])
    assert set(frames["combined"]["domain"]) == {"news", "books"}
    second.fingerprints = dict.fromkeys(second.domains, "others")
    assert write_combined([analyse(run.write()) for run in (first, second)]) is None


def test_the_table_is_written_where_asked_for(build, tmp_path):
    analyses = [analyse(build(name, 2, 1.9).write()) for name in ("first", "second")]
    text = write_combined(analyses, output=tmp_path / "all")
    assert "| in-domain                | second |" in text
    assert {path.name for path in (tmp_path / "all").iterdir()} == {
        "combined.md",
        "combined.tex",
        "combined.csv",
        "combined.html",
        "rivals.csv",
        "overview.png",
        "overview.svg",
    }


def test_rows_of_all_runs_stand_together_by_selection(build):
    analyses = [analyse(build(name, 2, 1.9).write()) for name in ("first", "second")]
    _, frames = combined(analyses)
    table = frames["combined"].drop_duplicates(["run", "protocol"])
    assert table[["protocol", "run"]].values.tolist()[:4] == [
        ["pretrained", "first"],
        ["pretrained", "second"],
        ["in-domain", "first"],
        ["in-domain", "second"],
    ]


def test_a_model_as_it_came_has_the_cost_of_its_training(build, tmp_path):
    (tmp_path / "training.json").write_text('{"seconds": 77.5}')
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
