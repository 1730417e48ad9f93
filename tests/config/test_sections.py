"""The sections of files."""

import pytest

from nvreg.config import Evaluation, Source


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


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ("test", "test", True),
        ("test", "train", False),
        ("test", "test[:500]", True),
        ("test[:500]", "test[500:]", False),
        ("test[:500]", "test[499:600]", True),
        ("test[:50%]", "test[50%:]", False),
        ("test[:50%]", "test[40%:]", True),
        ("test[:50%]", "test[:10]", False),  # which nobody knows without the data
        ("test[-5:]", "test[:5]", False),
        ("test[-5:]", "test[-5:]", True),
    ],
)
def test_parts_of_a_split_share_records_where_they_overlap(one, other, expected):
    first, second = (Source(hub="org/set", split=split) for split in (one, other))
    assert first.shares_records(second) is second.shares_records(first) is expected
    assert not first.shares_records(Source(hub="org/other", split=other))


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ([0, 0.3], [0.3, 1], False),
        ([0, 0.4], [0.3, 1], True),
        ([0, 0.4], None, True),
        ([0, 1], None, True),
        ([0.2, 0.4], [0.2, 0.4], True),
    ],
)
def test_parts_of_a_file_share_records_where_they_overlap(one, other, expected):
    first, second = (Source(files="/a.jsonl", part=part) for part in (one, other))
    assert first.shares_records(second) is second.shares_records(first) is expected
    assert not first.shares_records(Source(files="/b.jsonl", part=other))


def test_parts_of_splits_that_overlap_share_records_whichever_they_are():
    half = Source(hub="org/set", split="test", part=[0, 0.5])
    assert half.shares_records(Source(hub="org/set", split="test[:99]", part=[0.5, 1]))
    assert not half.shares_records(Source(hub="org/set", split="train", part=[0, 0.5]))
