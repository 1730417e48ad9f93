"""A random sample of a data set."""

import pytest
import torch

from nvreg.config import Evaluation, Reading
from nvreg.data import Examples
from nvreg.tasks import make_task
from nvreg.tasks.sampling import CALIBRATION_EXAMPLES, random_batches
from tests.tiny import LEXICON, tiny_marian


@pytest.fixture(scope="module")
def task():
    model, tokenizer = tiny_marian()
    return make_task(
        "translation", tokenizer, model.config, data=Reading(), evaluation=Evaluation(metrics=["nll"])
    )


@pytest.fixture(scope="module")
def examples():
    """Sources of 2 to 9 words, targets of one, the short ones first."""
    words = list(LEXICON)
    return Examples(
        [
            {"source": " ".join(words[: 2 + index // 25]), "target": LEXICON[words[index % 10]]}
            for index in range(200)
        ]
    )


def counted(batches):
    rows = sum(len(batch["labels"]) for batch in batches)
    return rows, sum(int(batch["attention_mask"].sum()) for batch in batches)


def test_it_has_the_tokens_that_are_asked_for_of_both_halves_of_a_model(task, examples):
    batches = random_batches(task, examples, 100)
    rows, _ = counted(batches)
    assert rows == 50  # two labels each, the word and the end
    assert sum(int((batch["labels"] != -100).sum()) for batch in batches) == 100


def test_long_and_short_examples_are_in_it_and_it_is_the_same_each_time(task, examples):
    batches = random_batches(task, examples, 100)
    rows, tokens = counted(batches)
    assert 5.5 < tokens / rows < 7.5  # 6.5 in the whole data set
    for one, other in zip(batches, random_batches(task, examples, 100), strict=True):
        assert all(torch.equal(one[name], other[name]) for name in one)


def test_few_tokens_come_from_several_examples(task, examples):
    assert counted(random_batches(task, examples, 1))[0] == CALIBRATION_EXAMPLES


def test_a_small_data_set_is_taken_whole(task, examples):
    whole = list(task.teacher_forced(task.encode(examples)))
    assert counted(random_batches(task, examples, 10**6)) == counted(whole)
