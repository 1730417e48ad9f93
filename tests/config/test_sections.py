"""The sections of files."""

import pytest

from nvreg.config import Evaluation


@pytest.mark.parametrize(
    ("given", "kept"), [([], [1.0]), ([1], [1.0]), ([2, 0.5], [0.5, 1.0, 2.0]), ([2, 1], [1.0, 2.0])]
)
def test_1_is_always_among_the_temperatures_which_ascend(given, kept):
    evaluation = Evaluation(metrics=["nll"], temperatures=given)
    assert (evaluation.temperatures, evaluation.keeps_temperatures) == (kept, len(kept) > 1)
    assert Evaluation(**evaluation.model_dump()) == evaluation


def test_temperatures_are_among_what_trials_compare_by_unless_none_are_kept():
    options = [Evaluation(metrics=["nll"], temperatures=each).options for each in ([], [2], [3])]
    assert [each.get("temperatures") for each in options] == [None, [1.0, 2.0], [1.0, 3.0]]
