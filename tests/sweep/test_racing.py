import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nvreg.sweep.racing import is_clearly_worse

INCUMBENT = {"home": np.linspace(0, 1, 20), "away": np.linspace(2, 3, 20)}


def shifted(**by: float):
    generator = np.random.default_rng(0)
    return {name: scores + by[name] + generator.normal(0, 0.1, 20) for name, scores in INCUMBENT.items()}


@pytest.mark.parametrize(
    ("setting", "lost"),
    [
        (shifted(home=-0.3, away=-0.3), True),
        (shifted(home=-0.3, away=0.0), False),
        (shifted(home=-0.3, away=0.3), False),
        (shifted(home=0.0, away=0.0), False),
        (shifted(home=0.3, away=0.3), False),
    ],
)
def test_only_what_is_clearly_worse_everywhere_is_stopped(setting, lost):
    assert is_clearly_worse(setting, INCUMBENT) == lost


def test_equal_scores_are_not_worse_and_few_examples_decide_nothing():
    assert not is_clearly_worse(INCUMBENT, INCUMBENT)
    few = {name: scores[:4] for name, scores in INCUMBENT.items()}
    assert not is_clearly_worse({name: scores - 1 for name, scores in few.items()}, few)


@given(st.lists(st.floats(-10, 10), min_size=1, max_size=30))
def test_not_both_of_two_settings_are_worse_than_the_other(scores):
    one, other = {"home": np.array(scores)}, {"home": np.zeros(len(scores))}
    assert not (is_clearly_worse(one, other) and is_clearly_worse(other, one))
