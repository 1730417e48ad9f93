import torch
from hypothesis import given
from hypothesis import strategies as st

from nvreg.data import batches, model_inputs, pad

LENGTHS = st.lists(st.integers(0, 50), max_size=60)


@given(LENGTHS, st.integers(1, 200))
def test_every_index_is_in_one_batch_within_the_budget(lengths, budget):
    grouped = batches(lengths, budget)
    assert sorted(index for group in grouped for index in group) == list(range(len(lengths)))
    for group in grouped:
        assert group
        assert len(group) == 1 or len(group) * max(lengths[index] for index in group) <= budget


@given(LENGTHS, st.integers(1, 200))
def test_longest_come_first_and_equals_keep_their_order(lengths, budget):
    order = [index for group in batches(lengths, budget) for index in group]
    assert order == sorted(order, key=lambda index: (-lengths[index], index))


@given(LENGTHS.filter(bool), st.integers(1, 200))
def test_no_batch_could_take_the_next_example(lengths, budget):
    grouped = batches(lengths, budget)
    for group in grouped[:-1]:
        assert (len(group) + 1) * max(1, lengths[group[0]]) > budget


def test_an_example_beyond_the_budget_has_a_batch_of_its_own():
    assert batches([3, 100, 3, 90], 10) == [[1], [3], [0, 2]]


def test_padding_is_on_the_right_and_masked():
    assert pad([[5, 6], [7]], -100).tolist() == [[5, 6], [7, -100]]
    inputs = model_inputs([[5], [6, 7, 8]], padding=1)
    assert inputs["input_ids"].tolist() == [[5, 1, 1], [6, 7, 8]]
    assert inputs["attention_mask"].tolist() == [[1, 0, 0], [1, 1, 1]]
    assert {tensor.dtype for tensor in inputs.values()} == {torch.int64}


def test_nothing_is_padded_to_nothing():
    assert pad([], 0).shape == (0, 0)
    assert pad([[], []], 0).shape == (2, 0)
    assert pad([], 0).dtype == torch.int64
