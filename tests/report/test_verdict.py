"""What a page comes to, in words, over made-up tables."""

from collections.abc import Mapping
from html import unescape
from typing import Any

import pandas as pd
import pytest

from nvreg.report.analysis import analyse
from nvreg.report.choices import listing
from nvreg.report.forest import forest
from nvreg.report.verdict import verdict
from nvreg.report.writing import write_report

NAN = float("nan")
DOMAINS = ("news", "talks", "books")

Effect = tuple[float, float, float]
"""A difference and the ends of the interval that repeats the choice."""

NOTHING: Effect = (0.1, -0.4, 0.6)
BETTER: Effect = (2.0, 1.0, 3.0)
WORSE: Effect = (-2.0, -3.0, -1.0)


def table(
    *choices: tuple[str, str, Mapping[str, Effect]], metric: str = "bleu", other: float = 30.0, **labels: str
) -> pd.DataFrame:
    """A row a domain of each choice: method, protocol, and what it changes; nothing on other domains."""
    rows = [
        {"metric": metric, "method": method, "protocol": protocol, "domain": domain, "trial": trial, **labels}
        | dict(zip(("difference", "low_reselected", "high_reselected"), effect, strict=True))
        | {"low": effect[1], "high": effect[2], "score": other + effect[0], "deviation": NAN, "p_holm": 0.5}
        for trial, (method, protocol, effects) in enumerate(choices, start=1)
        for domain, effect in ({name: NOTHING for name in DOMAINS} | dict(effects)).items()
    ]
    model = [
        dict.fromkeys(rows[0], NAN)
        | {"metric": metric, "method": "pretrained", "protocol": "pretrained", "trial": 0, **labels}
        | {"domain": domain, "score": other}
        for domain in DOMAINS
    ]
    return pd.DataFrame([*model, *rows])


def said(rows: pd.DataFrame, **more: Any) -> str:
    return " ".join(verdict(rows["metric"].iloc[0], rows, "news", **more))


def test_nothing_helps():
    rows = table(
        ("nv", "in-domain", {}), ("nv", "leave-one-domain-out", {"books": WORSE}), ("sink", "in-domain", {})
    )
    assert verdict("bleu", rows, "news") == [
        "Nothing helps: by bleu, no selection of nv improves any of the 2 sets out of domain (talks and "
        "books); nv chosen by leave-one-domain-out worsens books.",
        "In domain (news) no difference shows either.",
        "sink does not help either.",
    ]


def test_nothing_helps_and_it_has_a_price():
    rows = table(("nv", "in-domain", {}), ("nv", "in-domain-tolerance", {"news": WORSE}))
    assert (
        "In domain, what in-domain-tolerance chose of nv has a price: bleu "
        "goes from 30.0 to 28.0 (-2.0 {-3.0, -1.0}) on news." in said(rows)
    )
    assert "No simpler method was tried beside it." in said(rows)


def test_one_domain_gains_and_the_price_is_in_domain():
    rows = table(
        ("nv", "in-domain", {}),
        ("nv", "leave-one-domain-out", {"talks": BETTER, "news": WORSE}),
        ("sink", "in-domain", {}),
    )
    assert verdict("bleu", rows, "news") == [
        "nv helps on 1 of 2 sets out of domain: chosen by leave-one-domain-out (1 of 2 selections help "
        "somewhere), bleu goes from 30.0 to 32.0 (+2.0 {+1.0, +3.0}) on talks.",
        "In domain it has a price: bleu goes from 30.0 to 28.0 (-2.0 {-3.0, -1.0}) on news.",
        "sink does not help there.",
    ]


def test_the_selection_that_is_told_of_is_not_picked_by_test_scores():
    rows = table(
        ("nv", "in-domain", {"talks": BETTER, "books": BETTER}),
        ("nv", "leave-one-domain-out", {"books": WORSE}),
        ("nv", "out-of-domain-validation", {"talks": BETTER}),
    )
    assert verdict("bleu", rows, "news")[0] == (
        "By bleu, what leave-one-domain-out chose of nv helps on no set out of domain; nv worsens books. "
        "Under other selections nv chosen by in-domain helps on talks and books and nv chosen by "
        "out-of-domain-validation helps on talks."
    )
    applied = rows[rows["protocol"].ne("leave-one-domain-out")]
    assert "nv helps on 1 of 2 sets out of domain: chosen by out-of-domain-validation (2 of 2" in said(
        applied
    )
    missing = rows.assign(
        score=rows["score"].mask(rows["protocol"].eq("leave-one-domain-out")),
        difference=rows["difference"].mask(rows["protocol"].eq("leave-one-domain-out")),
    )
    assert "chosen by out-of-domain-validation" in said(missing)


def test_lower_is_better_of_perplexity():
    rows = table(("nv", "in-domain", {"talks": WORSE, "books": BETTER}), metric="perplexity")
    text = said(rows)
    assert text.startswith(
        "nv helps on 1 of 2 sets out of domain: chosen by in-domain, perplexity goes from 30.0 to 28.0"
    )
    assert "; it worsens books." in text


def test_a_control_did_as_well():
    both = {"talks": BETTER, "books": BETTER}
    rows = table(
        ("nv", "in-domain", both), ("sink", "in-domain", both), ("low-rank", "in-domain", {"talks": BETTER})
    )
    rivals = table(("sink", "in-domain", {}), ("low-rank", "in-domain", {}))
    assert said(rows, rivals=rivals).endswith("sink did as well.")
    some = table(
        ("nv", "in-domain", both), ("sink", "in-domain", {"books": BETTER}), ("low-rank", "in-domain", {})
    )
    assert said(some, rivals=rivals).endswith("As well did sink on books.")
    none = table(("nv", "in-domain", both), ("sink", "in-domain", {}), ("low-rank", "in-domain", {}))
    assert said(none, rivals=rivals).endswith("None of the 2 other methods did as well.")


def test_without_a_paired_comparison_nothing_is_said_to_do_as_well():
    both = {"talks": BETTER, "books": BETTER}
    rivals = table(("sink", "in-domain", {}), ("low-rank", "in-domain", {}))  # they are of nv alone

    def told(*controls: tuple[str, Mapping[str, Effect]]) -> str:
        others = [(name, "in-domain", effects) for name, effects in controls]
        return said(table(("nv", "in-domain", {}), ("nv-heads", "in-domain", both), *others), rivals=rivals)

    assert told(("sink", both), ("low-rank", {})).endswith(" sink helps there too.")
    assert told(("sink", both), ("low-rank", both)).endswith(" sink and low-rank help there too.")
    assert told(("sink", {"books": BETTER}), ("low-rank", {})).endswith("What helps too is sink on books.")
    assert told(("sink", {}), ("low-rank", {})).endswith("None of the 2 other methods helps there.")
    assert told(("sink", {})).endswith(" sink does not help there.")


def test_a_control_that_nv_beats_did_not_do_as_well():
    both = {"talks": BETTER, "books": BETTER}
    rows = table(("nv", "in-domain", both), ("sink", "in-domain", both))
    rivals = table(("sink", "in-domain", {"talks": BETTER, "books": BETTER}))
    assert said(rows, rivals=rivals).endswith("sink did not do as well.")
    assert said(rows, rivals=table(("sink", "in-domain", {"talks": BETTER}))).endswith(
        "As well did sink on books."
    )


def test_a_control_that_gains_more_is_said_to_by_how_much():
    both, more = {"talks": BETTER, "books": BETTER}, (9.0, 8.0, 10.0)
    much = table(
        ("nv-heads", "in-domain", both),
        ("sink", "in-domain", {"talks": more, "books": (2.5, 1.5, 3.5)}),
        ("low-rank", "in-domain", {}),
    )
    assert said(much).endswith(
        "sink gains more: bleu goes from 30.0 to 39.0 (+9.0 {+8.0, +10.0}) on talks. What helps too is "
        "sink on books."
    )
    lower = table(
        ("nv-heads", "in-domain", {"talks": WORSE}), ("sink", "in-domain", {"talks": (-9.0, -10.0, -8.0)}),
        metric="perplexity",
    )  # fmt: skip
    assert " sink gains more: perplexity goes from 30.0 to 21.0 (-9.0 {-10.0, -8.0}) on talks. " in said(
        lower
    )
    rows = table(("nv", "in-domain", both), ("sink", "in-domain", both), ("low-rank", "in-domain", both))
    rivals = table(("sink", "in-domain", {"talks": WORSE}), ("low-rank", "in-domain", both))
    assert said(rows, rivals=rivals).endswith(
        "sink gains more: bleu goes from 30.0 to 32.0 (+2.0 {+1.0, +3.0}) on talks. As well did "
        "sink on books."
    )


@pytest.mark.parametrize("gain", [{}, {"talks": BETTER}])
def test_simpler_methods_that_cannot_change_the_metric_are_named_as_tried(gain):
    alone, *others = ("nv", "in-domain", gain), ("flat", "in-domain", {}), ("still", "in-domain", {})
    assert said(table(alone)).endswith(" No simpler method was tried beside it.")
    assert said(table(alone, others[0]), cannot_change=["flat", "still"]).endswith(
        " No simpler method was tried beside it but flat, which cannot change bleu."
    )
    assert said(table(alone, *others), cannot_change=["flat", "still"]).endswith(
        " No simpler method was tried beside it but flat and still, which cannot change bleu."
    )
    assert "No simpler method" not in said(table(alone, *others), cannot_change=["flat"])
    assert "No simpler method" not in said(table(others[0]), cannot_change=["flat"])


def test_a_control_helps_where_nv_does_not():
    rows = table(
        ("nv", "in-domain", {}), ("sink", "in-domain", {"books": BETTER}), ("low-rank", "in-domain", {})
    )
    assert said(rows).endswith("Of the 2 other methods some help, under some selection: sink on books.")
    one = table(("nv", "in-domain", {}), ("sink", "in-domain", {"books": BETTER}))
    assert said(one).endswith("Under some selection sink helps on books.")


def test_both_forms_of_nv_are_told_of():
    rows = table(
        ("nv", "in-domain", {"talks": BETTER}),
        ("nv-heads", "in-domain", {"talks": BETTER, "books": BETTER}),
        ("sink", "in-domain", {}),
    )
    text = said(rows)
    assert text.startswith("nv-heads helps on all 2 sets out of domain")
    assert "; nv helps on talks." in text


def test_without_nv_every_method_is_told_of():
    rows = table(("sink", "in-domain", {"talks": BETTER}), ("low-rank", "in-domain", {}))
    assert said(rows).startswith("sink helps on 1 of 2 sets out of domain")
    assert "did as well" not in said(rows)


def test_upper_bounds_are_no_help():
    rows = table(("nv", "in-domain", {}), ("nv", "oracle", {"talks": BETTER, "books": BETTER}))
    assert said(rows).startswith("Nothing helps")
    assert verdict("bleu", table(("nv", "oracle", {})), "news") == [
        "Nothing but an upper bound is reported, which is no selection."
    ]


def test_too_few_examples_tell_nothing():
    unknown = {name: (2.0, NAN, NAN) for name in DOMAINS}
    assert said(table(("nv", "in-domain", unknown))).startswith(
        "Nothing can be said: no test set has the 10 examples"
    )
    one = table(("nv", "in-domain", {"books": (2.0, NAN, NAN)}))
    assert "; books has too few examples to tell." in said(one)
    two = table(("nv", "in-domain", {name: (2.0, NAN, NAN) for name in ("talks", "books")}))
    assert "; talks and books have too few examples to tell." in said(two)
    few = table(("nv", "in-domain", {"news": (2.0, NAN, NAN)}))
    assert "In domain (news) nothing can be said." in said(few)


def unscored(rows: pd.DataFrame, *domains: str, **labels: str) -> pd.DataFrame:
    """The same without numbers on some domains, of all rows, or of those with some labels."""
    where = rows["domain"].isin(domains)
    for column, value in labels.items():
        where &= rows[column].eq(value)
    numbers = ["score", "difference", "low", "high", "low_reselected", "high_reselected"]
    return rows.assign(**{name: rows[name].mask(where) for name in numbers})


def test_of_sets_without_labels_nothing_is_said():
    rows = table(
        ("nv-heads", "in-domain", {}), ("sink", "in-domain", {}), metric="nll"
    )  # fmt: skip
    assert verdict("nll", unscored(rows, "talks", "books"), "news", after=rows) == [
        "Nothing can be said of talks and books, which have no labels to score by.",
        "In domain (news) no difference shows.",
    ]
    gains = table(("nv", "in-domain", {"news": BETTER}), ("sink", "in-domain", {"books": BETTER}))
    assert verdict("bleu", unscored(gains, "talks", "books"), "news") == [
        "Nothing can be said of talks and books, which have no labels to score by.",
        "In domain, what in-domain chose of nv helps: bleu goes from 30.0 to 32.0 (+2.0 {+1.0, +3.0}) on "
        "news.",
    ]


@pytest.mark.parametrize("gain", [{}, {"talks": BETTER}])
def test_sets_without_labels_are_not_among_those_that_something_helps_on(gain):
    text = said(unscored(table(("nv", "in-domain", gain)), "books"))
    first = "nv helps on the set out of domain:" if gain else "Nothing helps: by bleu, no selection of nv imp"
    assert text.startswith(first)
    assert " Nothing can be said of books, which has no labels to score by. In domain" in text
    assert "2 sets" not in text


def test_of_sets_to_which_no_selection_applies_nothing_is_said():
    rows = table(("nv", "unlabelled", {}), ("sink", "in-domain", {}))
    text = said(unscored(rows, "books", method="nv"))
    assert "no selection of nv improves talks, out of domain. Nothing can be said of books, to which" in text
    assert said(unscored(rows[rows["method"].ne("sink")], *DOMAINS, method="nv")) == (
        "Nothing can be said of talks and books, to which no selection applies."
    )


def test_nothing_is_said_out_of_domain_where_only_the_set_in_domain_is_shown():
    rows = table(("nv", "in-domain", {"news": BETTER}))
    assert said(rows[rows["domain"].eq("news")]) == (
        "Nothing can be said out of domain: no set but news is shown."
    )


def test_nothing_helps_by_a_metric_without_a_direction():
    rows = table(("nv", "in-domain", {"talks": BETTER}), metric="length-ratio")
    told = "Nothing can be said: neither direction of length-ratio is better."
    assert verdict("length-ratio", rows, "news") == [told]
    assert forest("length-ratio", rows, "news", {}) is None
    assert forest("bleu", rows.assign(metric="bleu"), "news", {}) is not None


def test_many_domains_are_counted():
    many = {f"d{place}": BETTER for place in range(6)}
    text = said(table(("nv", "in-domain", many)))
    assert "nv helps on 6 of 8 sets out of domain" in text
    assert text.count("from 30.0") == 3
    assert (
        "on d0, from 30.0 to 32.0 (+2.0 {+1.0, +3.0}) on d1 and from 30.0 to 32.0 (+2.0 {+1.0, +3.0}) on d2;"
        in text
    )
    assert "; d3, d4 and d5 gain too." in text


def test_of_many_rows_a_forest_shows_the_selection_that_the_verdict_tells_of():
    choices = [(name, at, {}) for name in ("nv", "sink") for at in ("in-domain", "leave-one-domain-out")]
    rows = pd.concat(table(*choices, run=f"run-{number}") for number in range(7))
    drawn = forest("bleu", rows, "news", {})
    assert '["protocol", "selection", "leave-one-domain-out"]' in unescape(drawn.html)


def test_runs_are_named_and_a_better_model_is_said_to_be():
    rows = pd.concat(
        [
            table(("nv", "in-domain", {"talks": BETTER}), run="plain"),
            table(("nv", "in-domain", {}), run="mvcr"),
        ]
    )
    rivals = table(("pretrained", "in-domain", {"talks": WORSE}), run="mvcr")
    text = said(rows, rivals=rivals[rivals["protocol"] == "in-domain"])
    assert text.startswith("nv on plain helps on 1 of 2 sets out of domain")
    assert "; nv on mvcr helps on none." in text


def test_lists():
    assert [listing([]), listing(["a"]), listing(["a", "b"]), listing(["a", "b", "c"])] == [
        "",
        "a",
        "a and b",
        "a, b and c",
    ]


@pytest.mark.usefixtures("undrawn")
def test_a_verdict_stands_in_every_form(small):
    directory = small.write()
    page = write_report(analyse(directory))
    (line,) = [line for line in page.splitlines() if line.startswith("**Verdict.** ")]
    assert line.startswith("**Verdict.** nv helps on 1 of 2 sets out of domain: chosen by ")
    assert "\\paragraph{Verdict} nv helps on 1 of 2" in (directory / "tables/report.tex").read_text()
    assert (
        '<div class="verdict" role="note" aria-label="verdict"><p>nv helps on 1 of 2'
        in (directory / "report.html").read_text()
    )


def test_a_sweep_that_has_just_begun_and_one_that_keeps_the_model(run):
    run.add_nll(news=2.0, talks=3.0, books=3.0)
    assert "**Verdict.** No setting is measured yet." in write_report(analyse(run.write()), ())
    run.add_nll(news=2.5, talks=3.5, books=3.5, strength=0.3)
    page = write_report(analyse(run.write()), ())
    assert "**Verdict.** Nothing helps: every selection of nv keeps the pretrained model." in page
