from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor

from nvreg.demo.corpus import Pair, read_pairs, write_corpora
from nvreg.demo.recipe import Recipe
from nvreg.demo.translator import train_tokenizer, train_translator, validation_loss

TINY = Recipe(
    training_pairs=200,
    validation_pairs=20,
    test_pairs=20,
    vocabulary=300,
    width=32,
    feed_forward=32,
    layers=1,
    heads=2,
    steps=30,
    warmup_steps=5,
    batch_tokens=400,
    learning_rate=1e-2,
)


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> list[Pair]:
    directory = tmp_path_factory.mktemp("corpora")
    write_corpora(directory, 0, TINY)
    return read_pairs(directory / "village" / "train.jsonl")


@pytest.fixture
def threads() -> Iterator[Callable[[int], None]]:
    """Sets PyTorch's number of threads for the test."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def weights(pairs: list[Pair], seed: int) -> dict[str, Tensor]:
    tokenizer = train_tokenizer(pairs, TINY.vocabulary)
    return train_translator(pairs, tokenizer, TINY, seed, lambda loss: None).state_dict()


def test_tokenizer_is_reversible_and_deterministic(pairs: list[Pair]) -> None:
    tokenizer = train_tokenizer(pairs, TINY.vocabulary)
    assert len(tokenizer) == TINY.vocabulary
    for pair in pairs[:50]:
        for text in pair.values():
            ids = tokenizer(text)["input_ids"]
            assert ids[-1] == tokenizer.eos_token_id
            assert tokenizer.unk_token_id not in ids
            assert tokenizer.decode(ids, skip_special_tokens=True) == text
    again = train_tokenizer(pairs, TINY.vocabulary)
    assert again.backend_tokenizer.to_str() == tokenizer.backend_tokenizer.to_str()


def test_training_lowers_the_loss_and_counts_its_steps(pairs: list[Pair]) -> None:
    tokenizer = train_tokenizer(pairs, TINY.vocabulary)
    losses: list[float] = []
    model = train_translator(pairs, tokenizer, TINY, 0, losses.append)
    assert len(losses) == TINY.steps
    assert losses[-1] < losses[0] - 0.5
    assert validation_loss(model, tokenizer, pairs) < losses[0]
    assert not model.training


def test_same_seed_gives_the_same_weights(pairs: list[Pair], threads: Callable[[int], None]) -> None:
    threads(1)
    first, other = weights(pairs, 0), weights(pairs, 1)
    threads(2)
    again = weights(pairs, 0)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["lm_head.weight"], other["lm_head.weight"])


def test_training_leaves_random_state_and_threads_alone(
    pairs: list[Pair], threads: Callable[[int], None]
) -> None:
    threads(2)
    state = torch.get_rng_state()
    weights(pairs, 0)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_num_threads() == 2
