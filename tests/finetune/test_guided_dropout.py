from itertools import pairwise
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nvreg.finetune.regularisers.guided_dropout import Schedule, dropout_rates

SCORES = {f"site {number}": score for number, score in enumerate([3.0, 1.0, 2.0, 5.0, 4.0])}
scores = st.dictionaries(st.text(), st.floats(0, 1e9), min_size=1, max_size=40)


def rates(given=SCORES, schedule="guided", p_max=0.1, p_min=0.0, seed=0):
    return dropout_rates(given, schedule, p_max=p_max, p_min=p_min, seed=seed)


def test_the_least_informative_site_is_dropped_most_linearly_in_rank():
    assert list(rates().values()) == pytest.approx([0.05, 0.1, 0.075, 0.0, 0.025])


def test_the_steps_of_37_sites_are_those_published():
    values = list(rates({str(site): site for site in range(37)}).values())
    assert (values[0], values[-1]) == (0.1, 0.0)
    assert {round(a - b, 6) for a, b in pairwise(values)} == {round(0.1 / 36, 6)}


@given(
    st.integers(1, 200),
    st.tuples(st.floats(0, 1, exclude_max=True), st.floats(0, 1, exclude_max=True)).map(sorted),
    st.sampled_from(get_args(Schedule)),
)
def test_no_rate_is_beyond_the_ends(sites, ends, schedule):
    p_min, p_max = ends
    values = list(rates({str(site): site for site in range(sites)}, schedule, p_max, p_min).values())
    assert p_min <= min(values)
    assert max(values) <= p_max
    if schedule == "guided" and sites > 1:
        assert (values[0], values[-1]) == (p_max, p_min)


@given(scores)
def test_guided_rates_fall_with_the_score(given):
    by_site = rates(given)
    ordered = sorted(given, key=given.get)
    assert sorted(by_site.values(), reverse=True) == [by_site[site] for site in ordered]
    assert list(by_site) == list(given)


@given(scores, st.integers(0, 5))
def test_controls_keep_the_rates_or_their_mean(given, seed):
    guided = rates(given)
    assert sorted(rates(given, "reversed").values()) == sorted(guided.values())
    assert sorted(rates(given, "shuffled", seed=seed).values()) == sorted(guided.values())
    assert set(rates(given, "uniform").values()) == {0.1}
    mean = sum(guided.values()) / len(guided)
    assert list(rates(given, "uniform-mean").values()) == pytest.approx([mean] * len(guided))


def test_reversed_drops_the_most_informative_site_most():
    assert list(rates(schedule="reversed").values()) == pytest.approx([0.05, 0.0, 0.025, 0.1, 0.075])


def test_shuffled_differs_by_seed_and_is_the_same_for_one():
    given = {str(site): float(site) for site in range(30)}
    assert rates(given, "shuffled", seed=1) == rates(given, "shuffled", seed=1)
    assert rates(given, "shuffled", seed=1) != rates(given, "shuffled", seed=2)
    assert rates(given, "shuffled", seed=1) != rates(given)
