"""The numbers in the tables."""

import json

import numpy as np
import pandas as pd
import pytest

from nvreg.report.analysis import Analysis, analyse
from nvreg.report.reading import Arm, read_run
from nvreg.report.selection import Pick
from nvreg.report.tables import costs, methods_table, scores_table, settings_table
from tests.report.conftest import write_training


@pytest.fixture
def tables(small) -> tuple[pd.DataFrame, pd.DataFrame]:
    analysis = analyse(small.write())
    return scores_table(analysis), settings_table(analysis)


@pytest.fixture
def scores(tables) -> pd.DataFrame:
    return tables[0].set_index(["metric", "protocol", "domain"])


def test_one_row_a_metric_protocol_and_domain(scores):
    assert len(scores) == 2 * 6 * 3
    assert scores.index.is_unique
    first = scores.index[:4].tolist()
    assert first == [
        ("perplexity", "pretrained", "news"),
        ("perplexity", "pretrained", "talks"),
        ("perplexity", "pretrained", "books"),
        ("perplexity", "in-domain", "news"),
    ]


def test_the_pretrained_model_is_compared_with_nothing(scores):
    row = scores.loc["nll", "pretrained", "talks"]
    assert row["score"] == pytest.approx(3.0)
    assert row[["difference", "low", "high", "low_reselected", "p", "p_holm", "seed"]].isna().all()
    assert (row["method"], row["trial"], row["setting"]) == ("pretrained", 0, "{}")


def test_scores_and_differences_are_those_of_the_test_set(scores):
    row = scores.loc["nll", "out-of-domain-validation", "talks"]
    assert (row["score"], row["difference"]) == (pytest.approx(2.8), pytest.approx(-0.2))
    assert row["low"] < -0.2 < row["high"] < 0
    assert (row["method"], row["seed"], row["trial"]) == ("nv", 42, 3)
    assert json.loads(row["setting"]) == {"tau_mu": 0.8}


def test_a_choice_by_one_metric_is_shown_in_all(scores):
    assert scores.loc["nll", "in-domain", "books"]["trial"] == 1
    row = scores.loc["perplexity", "in-domain", "books"]
    assert row["difference"] == pytest.approx(np.exp(3.2) - np.exp(3.0))


def test_a_protocol_that_does_not_apply_has_no_numbers(scores):
    assert scores.loc["nll", "out-of-domain-validation", "books"].drop(["method", "seed"]).isna().all()


def test_in_domain_is_the_mean_over_the_settings_chosen_a_domain(small):
    small.add_nll(news=2.2, talks=2.9, books={"test": 2.0}, settings={"tau_mu": 0.5}, strength=0.9)
    run = read_run(small.write())
    trials = {"news": (4, 5), "talks": (4,), "books": (5,)}
    selection = {domain: Pick(run, domain, numbers) for domain, numbers in trials.items()}
    table = scores_table(Analysis(run, {Arm("nv", 42): {"oracle": selection}}))
    row = table.set_index(["metric", "protocol", "domain"]).loc["nll", "oracle", "news"]
    assert (row["score"], row["difference"]) == (pytest.approx(2.3), pytest.approx(0.3))
    assert row["low"] < 0.3 < row["high"]
    # Independent noise of 0.1 an example in each of both settings and the pretrained model.
    assert row["high"] - row["low"] == pytest.approx(2 * 1.96 * 0.1 * np.sqrt(1.5 / 40), rel=0.25)
    assert row[["trial", "setting"]].isna().all()


def test_settings_are_listed_once_for_all_domains_or_a_domain(tables):
    assert (tables[1]["method"] == "nv").all()
    assert (tables[1]["seed"] == 42).all()
    listed = tables[1][["protocol", "domain", "trial", "strength"]].values.tolist()
    assert listed == [
        ["in-domain", "all", 1, 0.1],
        ["in-domain-tolerance", "all", 2, 0.5],
        ["leave-one-domain-out", "books", 3, 0.4],
        ["out-of-domain-validation", "talks", 3, 0.4],
        ["oracle", "talks", 4, 0.9],
        ["oracle", "books", 4, 0.9],
    ]


def test_p_values_are_corrected_over_the_domains_of_a_row(scores):
    rows = scores.sort_index().loc["nll", "in-domain-tolerance"]
    assert rows.loc["news", "p"] > 0.1
    assert rows.loc["talks", "p"] < 0.05
    ordered = rows.sort_values("p")
    assert ordered["p_holm"].iloc[0] == pytest.approx(3 * ordered["p"].iloc[0])
    assert ordered["p_holm"].iloc[1] == pytest.approx(
        max(ordered["p_holm"].iloc[0], 2 * ordered["p"].iloc[1])
    )


def test_the_oracle_has_an_interval_and_no_test(scores):
    rows = scores.sort_index().loc["nll", "oracle"]
    assert rows[["low", "high"]].notna().all(axis=None)
    assert rows[["low_reselected", "high_reselected", "p", "p_holm"]].isna().all(axis=None)


@pytest.fixture
def several(small, control):
    """Two methods; the second has one trial a seed, the first four with one seed and none with the other."""
    small.seeds, small.methods = (42, 43), {**small.methods, control: small.methods["nv"]}
    small.add_nll(news=1.8, talks=2.9, books=3.0, method=control, strength=0.2, seconds=3.0)
    small.add_nll(news=1.7, talks=2.7, books=3.0, method=control, seed=43, strength=0.2, seconds=4.0)
    small.add_nll(news=1.6, talks=2.7, books=3.0, method=control, seed=43, status="stopped", seconds=5.0)
    return small


def test_several_methods_and_seeds_are_rows_and_their_means(several):
    analysis = analyse(several.write())
    single = scores_table(analysis).set_index(["metric", "method", "seed", "protocol", "domain"])
    means = methods_table(analysis).set_index(["metric", "method", "protocol", "domain"])
    first, second = (single.loc["nll", "control", seed, "in-domain", "talks"] for seed in (42, 43))
    assert (first["score"], second["score"]) == (pytest.approx(2.9), pytest.approx(2.7))
    row = means.loc["nll", "control", "in-domain", "talks"]
    assert row["score"] == pytest.approx(2.8)
    assert row["deviation"] == pytest.approx(np.std([2.9, 2.7], ddof=1))
    assert row["difference"] == pytest.approx(-0.2)
    assert row["low"] < -0.2 < row["high"]
    assert pd.isna(row["trial"])
    assert means.loc["nll", "pretrained", "pretrained", "talks"]["score"] == pytest.approx(3.0)
    assert len(means.loc["nll"]) == (1 + 2 * 5) * 3


def test_seeds_that_agree_name_their_trial(several):
    for line in several.lines[5:]:
        line["status"] = "stopped"
    row = methods_table(analyse(several.write())).set_index(["metric", "method", "protocol", "domain"])
    assert row.loc["nll", "control", "in-domain", "talks"]["trial"] == 0


def test_costs_are_means_over_seeds_with_what_did_not_complete(several, tmp_path):
    run = read_run(several.write())
    assert costs([run], "control") == {"tried": 1.5, "search_seconds": 6.0, "training_seconds": None}
    assert costs([run], "nv")["tried"] == 2


def test_training_costs_what_the_fine_tuned_checkpoint_says(several, tmp_path):
    write_training(tmp_path, 77.5)
    several.model = str(tmp_path)
    assert costs([read_run(several.write())], "nv")["training_seconds"] == 77.5
    table = methods_table(analyse(several.directory))
    assert table.loc[table["method"] == "nv", "training_seconds"].eq(77.5).all()
