"""The numbers in the tables."""

import json

import numpy as np
import pandas as pd
import pytest

from nvreg.report.reading import read_run
from nvreg.report.selection import select
from nvreg.report.tables import scores_table, settings_table


@pytest.fixture
def tables(small) -> tuple[pd.DataFrame, pd.DataFrame]:
    run = read_run(small.write())
    choices = select(run, run.experiment.selection.protocols)
    return scores_table(run, choices), settings_table(run, choices)


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


def test_the_pretrained_model_does_not_differ_from_itself(scores):
    row = scores.loc["nll", "pretrained", "talks"]
    assert row["score"] == pytest.approx(3.0)
    assert (row["difference"], row["low"], row["high"]) == (0, 0, 0)
    assert (row["trial"], row["setting"]) == (0, "{}")


def test_scores_and_differences_are_those_of_the_test_set(scores):
    row = scores.loc["nll", "out-of-domain-validation", "talks"]
    assert (row["score"], row["difference"]) == (pytest.approx(2.8), pytest.approx(-0.2))
    assert row["low"] < -0.2 < row["high"] < 0
    assert (row["trial"], json.loads(row["setting"])) == (3, {"tau_mu": 0.8})


def test_a_choice_by_one_metric_is_shown_in_all(scores):
    assert scores.loc["nll", "in-domain", "books"]["trial"] == 1
    row = scores.loc["perplexity", "in-domain", "books"]
    assert row["difference"] == pytest.approx(np.exp(3.2) - np.exp(3.0))


def test_a_protocol_that_does_not_apply_has_no_numbers(scores):
    assert scores.loc["nll", "out-of-domain-validation", "books"].isna().all()


def test_in_domain_is_the_mean_over_the_settings_chosen_a_domain(small):
    small.add_nll(news=2.2, talks=2.9, books={"test": 2.0}, settings={"tau_mu": 0.5}, strength=0.9)
    run = read_run(small.write())
    choice = {"oracle": {"news": (4, 5), "talks": (4,), "books": (5,)}}
    row = scores_table(run, choice).set_index(["metric", "protocol", "domain"]).loc["nll", "oracle", "news"]
    assert (row["score"], row["difference"]) == (pytest.approx(2.3), pytest.approx(0.3))
    assert row["low"] < 0.3 < row["high"]
    # Independent noise of 0.1 an example in each of both settings and the pretrained model.
    assert row["high"] - row["low"] == pytest.approx(2 * 1.96 * 0.1 * np.sqrt(1.5 / 40), rel=0.25)
    assert row[["trial", "setting"]].isna().all()


def test_settings_are_listed_once_for_all_domains_or_a_domain(tables):
    listed = tables[1][["protocol", "domain", "trial", "strength"]].values.tolist()
    assert listed == [
        ["in-domain", "all", 1, 0.1],
        ["in-domain-tolerance", "all", 2, 0.5],
        ["leave-one-domain-out", "books", 3, 0.4],
        ["out-of-domain-validation", "talks", 3, 0.4],
        ["oracle", "talks", 4, 0.9],
        ["oracle", "books", 4, 0.9],
    ]
