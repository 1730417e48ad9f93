"""What a comparison of two runs comes to, in words, over made-up tables."""

import pytest

from nvreg.report.compared import compared
from tests.report.test_verdict import BETTER, DOMAINS, NAN, WORSE, table


def test_a_comparison_tells_of_models_and_of_choices():
    rows = table(("nv", "in-domain", {"talks": BETTER}), ("nv", "leave-one-domain-out", {}))
    rows.loc[rows["method"] == "pretrained", ["difference", "low_reselected", "high_reselected"]] = WORSE
    paired = rows.drop(columns="trial")
    assert compared("bleu", paired, "news", "a", "b") == [
        "By bleu, b as it came is worse than a, from 32.0 to 30.0 (-2.0 {-3.0, -1.0}) on news (in domain), "
        "from 32.0 to 30.0 (-2.0 {-3.0, -1.0}) on talks and from 32.0 to 30.0 (-2.0 {-3.0, -1.0}) on books.",
        "By bleu, b with what leave-one-domain-out chose of nv shows no difference from a (so say 1 of 2 "
        "selections).",
    ]
    mixed = table(("nv", "in-domain", {"talks": BETTER, "news": WORSE})).drop(columns="trial")
    assert compared("bleu", mixed, "news", "a", "b")[1] == (
        "By bleu, b with what in-domain chose of nv is better than a, from 30.0 to 32.0 (+2.0 {+1.0, +3.0}) "
        "on talks; worse, from 30.0 to 28.0 (-2.0 {-3.0, -1.0}) on news (in domain)."
    )


def test_methods_of_which_a_comparison_says_the_same_share_a_sentence():
    rows = table(
        *((name, "in-domain", {}) for name in ("nv", "sink")), ("nv-heads", "in-domain", {"talks": BETTER})
    )
    assert compared("bleu", rows, "news", "a", "b")[1:] == [
        "By bleu, b with what in-domain chose of nv and sink shows no difference from a.",
        "By bleu, b with what in-domain chose of nv-heads is better than a, from 30.0 to 32.0 "
        "(+2.0 {+1.0, +3.0}) on talks.",
    ]


def test_a_comparison_tells_of_what_is_left_after_temperature():
    gains = {"talks": WORSE, "books": WORSE}  # lower is better
    rows = table(("nv", "in-domain", gains), ("nv", "leave-one-domain-out", gains), metric="nll")
    left = [("nv", "in-domain", {"talks": WORSE}), ("nv", "leave-one-domain-out", {"books": BETTER})]
    model = [("pretrained", "in-domain", {}), ("pretrained", "leave-one-domain-out", {"news": WORSE})]
    after = table(*left, *model, metric="nll")
    assert compared("nll", rows, "news", "a", "b", after)[2:] == [
        "After temperature, b is better than a, from 30.0 to 28.0 (-2.0 {-3.0, -1.0}) on news (in domain) "
        "(so say 1 of 2 selections).",
        "After temperature, b with what leave-one-domain-out chose of nv is worse than a, from 30.0 to 32.0 "
        "(+2.0 {+1.0, +3.0}) on books (so say 1 of 2 selections).",
    ]


def test_neither_run_is_better_by_a_metric_without_a_direction():
    rows = table(("nv", "in-domain", {"talks": BETTER}), metric="length-ratio")
    told = ["Nothing can be said: neither direction of length-ratio is better."]
    assert compared("length-ratio", rows, "news", "a", "b") == told


@pytest.mark.parametrize(("metric", "is_unknown"), [("nll", True), ("perplexity", True), ("f1", False)])
def test_where_no_temperature_was_kept_a_comparison_says_that_one_might_do_as_much(metric, is_unknown):
    sentence = "Whether a temperature alone would do as much is not known, as none were kept."
    rows = table(("nv", "in-domain", {"talks": WORSE}), metric=metric)
    assert (sentence in compared(metric, rows, "news", "a", "b")) == is_unknown
    assert sentence not in compared(metric, rows, "news", "a", "b", rows)
    assert sentence not in compared(metric, table(("nv", "in-domain", {}), metric=metric), "news", "a", "b")


def test_a_comparison_says_of_which_sets_it_knows_nothing():
    few = (2.0, NAN, NAN)
    rows = table(("nv", "in-domain", {"books": few}), ("sink", "in-domain", dict.fromkeys(DOMAINS, few)))
    assert compared("bleu", rows, "news", "a", "b")[1:] == [
        "By bleu, b with what in-domain chose of nv shows no difference from a; of books nothing can be "
        "said.",
        "By bleu, b with what in-domain chose of sink cannot be told from a: no test set has the 10 examples "
        "with labels that it takes.",
    ]
