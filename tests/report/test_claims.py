"""What a verdict says of its claims after temperature, over made-up tables of nll, where lower is better."""

import re
from collections.abc import Mapping
from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nvreg.report.verdict import verdict
from tests.report.test_verdict import DOMAINS, Effect, said, table

GAIN: Effect = (-2.0, -3.0, -1.0)
LOSS: Effect = (2.0, 1.0, 3.0)
ALSO, NOT = "(also after temperature)", "(not after temperature)"

Choices = Mapping[tuple[str, str], Mapping[str, Effect]]
"""What is chosen by method and protocol, and what it changes."""


def nats(choices: Choices) -> pd.DataFrame:
    return table(*((*labels, effects) for labels, effects in choices.items()), metric="nll")


def told(plain: Choices, after: Choices, **more: Any) -> str:
    """The verdict; what the table after temperature has of a choice is nothing where it is not given."""
    return said(nats(plain), after=nats({**{each: {} for each in plain}, **after}), **more)


NV, HEADS, SINK, RANK = (
    (name, "leave-one-domain-out") for name in ("nv", "nv-heads", "sink", "low-rank")
)  # fmt: skip


@pytest.mark.parametrize(
    ("after", "left"),
    [
        ({}, NOT),
        ({"books": LOSS}, NOT),
        ({"talks": GAIN}, "(after temperature talks)"),
        ({"talks": GAIN, "books": GAIN}, ALSO),
    ],
)
def test_a_gain_out_of_domain(after, left):
    text = told({NV: {"talks": GAIN, "books": GAIN}}, {NV: after})
    assert text.startswith(
        f"nv helps on all 2 sets out of domain {left}: chosen by leave-one-domain-out, nll"
    )
    assert ("; it worsens books after temperature." in text) == (after == {"books": LOSS})
    assert "not known" not in text


def test_harm_out_of_domain():
    plain = {NV: {"talks": GAIN, "books": LOSS}}
    assert f"; it worsens books {NOT}." in told(plain, {})
    assert f"; it worsens books {ALSO}." in told(plain, plain)
    assert "; it worsens books (after temperature talks)." in told(plain, {NV: {"talks": LOSS}})
    alone = {NV: {"books": LOSS}}
    assert f"; nv chosen by leave-one-domain-out worsens books {NOT}. In" in told(alone, {})
    many = {("nv", f"by-{number}"): {"books": LOSS} for number in range(4)}
    assert f"; 4 of 4 worsen some, books {NOT}. In" in told(many, {})
    assert f"; 4 of 4 worsen some, books {ALSO}. In" in told(many, many)


@pytest.mark.parametrize(("after", "left"), [({}, NOT), ({"news": GAIN}, ALSO)])
def test_a_gain_in_domain(after, left):
    step = "nll goes from 30.0 to 28.0 (-2.0 {-3.0, -1.0}) on news"
    helping = told({NV: {"books": GAIN, "news": GAIN}}, {NV: {"books": GAIN, **after}})
    assert f"In domain it helps too: {step} {left}." in helping
    plain = {NV: {"news": GAIN}}
    alone = told(plain, {NV: after})
    assert f"In domain, what leave-one-domain-out chose of nv helps: {step} {left}." in alone
    more = {**plain, HEADS: {"news": GAIN}, ("nv", "in-domain"): {"news": GAIN}}
    assert f"on news {left}; 2 more of 3 selections do so too, not after temperature." in told(
        more, {NV: after}
    )
    assert "do so too, 1 of them after temperature." in told(more, {HEADS: {"news": GAIN}})
    assert "do so too, also after temperature." in told(more, more)


def test_a_price_in_domain():
    step = "nll goes from 30.0 to 32.0 (+2.0 {+1.0, +3.0}) on news"
    plain = {NV: {"books": GAIN, "news": LOSS}}
    assert f"In domain it has a price: {step} {NOT}." in told(plain, {})
    assert f"In domain it has a price: {step} {ALSO}." in told(plain, plain)
    assert f"{step} {NOT}; after temperature it helps." in told(plain, {NV: {"news": GAIN}})
    late = told({NV: {"books": GAIN}}, {NV: {"news": LOSS}})
    assert "In domain (news) no difference shows (+0.10 {-0.40, +0.60}); after temperature it has a" in late
    assert f"chose of nv has a price: {step} {NOT}." in told({NV: {"news": LOSS}}, {})


def test_other_selections_and_other_forms():
    plain = {NV: {"books": LOSS}, ("nv", "in-domain"): {"talks": GAIN}, ("nv", "unlabelled"): {"talks": GAIN}}
    after = {NV: {"books": LOSS}, ("nv", "unlabelled"): {"talks": GAIN, "books": GAIN}}
    assert told(plain, after).startswith(
        "By nll, what leave-one-domain-out chose of nv helps on no set out of domain; nv worsens books "
        f"{ALSO}. Under other selections nv chosen by in-domain helps on talks {NOT} and nv chosen by "
        "unlabelled helps on talks (after temperature talks and books)."
    )
    both = {NV: {"talks": GAIN, "books": GAIN}, HEADS: {"talks": GAIN}, ("nv", "in-domain"): {"books": GAIN}}
    text = told(both, {NV: {"books": GAIN}})
    assert "(2 of 2 selections help somewhere, 1 of them after temperature)" in text
    assert f"; nv-heads helps on talks {NOT}." in text


def test_what_helps_after_temperature_alone():
    text = told({NV: {}, HEADS: {}, SINK: {}}, {HEADS: {"books": GAIN}, SINK: {"talks": GAIN}})
    assert text.startswith("Nothing helps: by nll, ")
    assert text.endswith(
        "sink does not help either. After temperature, nv-heads chosen by leave-one-domain-out helps on "
        "books and sink chosen by leave-one-domain-out helps on talks."
    )
    beside = told({NV: {"talks": GAIN}, SINK: {}}, {NV: {"talks": GAIN}, SINK: {"talks": GAIN}})
    assert beside.endswith(
        "sink does not help there. After temperature, sink chosen by leave-one-domain-out helps on talks."
    )


def test_controls_where_nothing_else_helps():
    plain = {NV: {}, SINK: {"books": GAIN}}
    assert told(plain, {}).endswith(f" Under some selection sink helps on books {NOT}.")
    assert told(plain, plain).endswith(f" Under some selection sink helps on books {ALSO}.")
    several = {**plain, RANK: {"talks": GAIN}, ("sink", "in-domain"): {"talks": GAIN}}
    assert told(several, {RANK: {"talks": GAIN}, SINK: {"books": GAIN, "talks": GAIN}}).endswith(
        "help, under some selection: sink on books and talks (after temperature books) and low-rank on talks "
        f"{ALSO}."
    )


def test_controls_that_did_as_well():
    both = {"talks": GAIN, "books": GAIN}
    plain = {HEADS: both, SINK: both}
    assert told(plain, {HEADS: both}).endswith(f" sink helps there too {NOT}.")
    assert told(plain, {SINK: {"talks": GAIN}}).endswith(" sink helps there too (after temperature talks).")
    three = {**plain, RANK: both}
    assert told(three, {}).endswith(f" sink and low-rank help there too {NOT}.")
    assert told(three, {RANK: both}).endswith(f" sink {NOT} and low-rank {ALSO} help there too.")
    some = {HEADS: both, SINK: {"books": GAIN}, RANK: {"talks": GAIN}}
    assert told(some, {SINK: both}).endswith(
        f"What helps too is sink on books {ALSO} and low-rank on talks {NOT}."
    )


def test_controls_that_gain_more():
    more = {"talks": (-9.0, -10.0, -8.0)}
    plain = {HEADS: {"talks": GAIN}, SINK: more, RANK: more}
    text = told(plain, {HEADS: {"talks": GAIN}, SINK: more, RANK: {"talks": GAIN}})
    assert text.endswith(f"(-9.0 {{-10.0, -8.0}}) on talks {ALSO}; so does low-rank on talks {NOT}.")


def test_rivals_after_temperature_are_those_of_the_paired_comparison():
    both = {"talks": GAIN, "books": GAIN}
    plain, level, beaten = {NV: both, SINK: both}, nats({SINK: {}}), nats({SINK: both})
    assert told(plain, plain, rivals=level, rivals_after=level).endswith(f" sink did as well {ALSO}.")
    assert told(plain, plain, rivals=level, rivals_after=beaten).endswith(f" sink did as well {NOT}.")
    ahead = nats({SINK: {"talks": LOSS}})
    text = told(plain, plain, rivals=ahead, rivals_after=level)
    assert f"sink gains more: nll goes from 30.0 to 28.0 (-2.0 {{-3.0, -1.0}}) on talks {NOT}. As" in text
    model = table(("pretrained", NV[1], {"talks": LOSS}), metric="nll", run="mvcr")
    model = model[model["protocol"].eq(NV[1])]
    assert f"mvcr as it came is better still on talks {ALSO}." in told(
        plain, plain, rivals=model, rivals_after=model
    )


@pytest.mark.parametrize(("metric", "is_unknown"), [("nll", True), ("perplexity", True), ("f1", False)])
@pytest.mark.parametrize(
    "choices",
    [
        {NV: {"talks": GAIN}},
        {NV: {"books": LOSS}},
        {NV: {"news": GAIN}},
        {NV: {}, ("nv", "in-domain"): {"talks": GAIN}},
        {NV: {}, SINK: {"talks": GAIN}},
    ],
)
def test_where_no_temperature_was_kept_nobody_knows_what_one_would_do(metric, is_unknown, choices):
    sentence = "Whether a temperature alone would do as much is not known, as none were kept."
    rows = table(*((*labels, effects) for labels, effects in choices.items()), metric=metric)
    if metric == "f1":  # higher is better
        numbers = ["difference", "low_reselected", "high_reselected"]
        rows[numbers] = -rows[["difference", "high_reselected", "low_reselected"]].to_numpy()
    assert (sentence in said(rows)) == is_unknown
    assert sentence not in said(rows, after=rows)
    assert sentence not in said(table((*NV, {}), metric=metric))


LABELS = [(method, at) for method in ("nv", "nv-heads", "sink", "low-rank") for at in ("in-domain", NV[1])]
EFFECTS = st.dictionaries(st.sampled_from(DOMAINS), st.sampled_from([GAIN, LOSS]))
CLAIM = re.compile(
    r"\bhelps? on (?!no)|chose of \S+ helps:|it helps|worsens? |has a price|gains more|there too|too is"
)


@settings(max_examples=40, deadline=None)
@given(st.dictionaries(st.sampled_from(LABELS), st.tuples(EFFECTS, EFFECTS), min_size=1, max_size=5))
def test_no_claim_goes_without_a_word_on_temperature(chosen):
    rows, after = (nats({labels: each[place] for labels, each in chosen.items()}) for place in (0, 1))
    for sentence in verdict("nll", rows, "news", after):
        assert not CLAIM.search(sentence) or re.search("[aA]fter temperature", sentence)


def test_accuracy_has_no_word_on_temperature():
    rows = table((*NV, {"talks": LOSS, "news": GAIN}), (*SINK, {"talks": LOSS}), metric="accuracy")
    assert "temperature" not in said(rows, after=nats({NV: {}, SINK: {}}))
