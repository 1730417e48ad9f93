from collections.abc import Callable
from itertools import islice
from random import Random

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

from nvreg.demo.domains import IN_DOMAIN
from nvreg.demo.language import Lexicon
from nvreg.demo.making import UNTRAINED, masked
from nvreg.demo.recipe import RECIPES, Recipe, Training
from nvreg.demo.records import KINDS, Record
from nvreg.demo.tokenizer import SPECIAL_TOKENS, train_tokenizer
from nvreg.demo.training import epochs, reproducible, train_

TASKS = pytest.mark.parametrize("task", RECIPES)


def draw(task: str, count: int = 200) -> list[Record]:
    lexicon, rng = Lexicon.draw(Random(0)), Random(1)
    return [KINDS[task].draw(IN_DOMAIN, lexicon, rng) for _ in range(count)]


@TASKS
def test_tokenizer_is_reversible_and_deterministic(task: str) -> None:
    records = draw(task)
    tokenizer = train_tokenizer(records, task, 300)
    assert len(tokenizer) == 300
    for record in records[:50]:
        for text in record.values():
            ids = tokenizer(text)["input_ids"]
            assert tokenizer.unk_token_id not in ids
            assert tokenizer.decode(ids, skip_special_tokens=True) == text
    again = train_tokenizer(records, task, 300)
    assert again.backend_tokenizer.to_str() == tokenizer.backend_tokenizer.to_str()


@pytest.mark.parametrize(
    ("task", "first", "last"),
    [
        ("translation", False, True),
        ("classification", True, True),
        ("language-modelling", True, False),
        ("summarisation", False, True),
    ],
)
def test_what_a_text_begins_and_ends_with(task: str, first: bool, last: bool) -> None:
    tokenizer = train_tokenizer(draw(task), task, 300)
    ids = tokenizer("sul lowa.")["input_ids"]
    assert (ids[0] == tokenizer.bos_token_id, ids[-1] == tokenizer.eos_token_id) == (first, last)


def trained(seed: int, recipe: Recipe) -> tuple[PreTrainedModel, list[float]]:
    batches = [
        {"input_ids": ids, "labels": ids} for ids in torch.arange(160).remainder(50).view(4, 2, 20).unbind()
    ]
    losses: list[float] = []
    with reproducible(seed):
        model = UNTRAINED["language-modelling"](recipe)
        training = Training(steps=30, warmup_steps=5, learning_rate=1e-2)
        train_(model, epochs(batches, seed), training, losses.append)
    return model, losses


def test_training_lowers_the_loss_and_counts_its_steps(recipes: dict[str, Recipe]) -> None:
    model, losses = trained(0, recipes["language-modelling"])
    assert len(losses) == 30
    assert losses[-1] < losses[0] - 0.5
    assert not model.training


def test_same_seed_gives_the_same_weights(recipes: dict[str, Recipe], threads: Callable[[int], None]) -> None:
    def weights(seed: int) -> dict[str, Tensor]:
        return trained(seed, recipes["language-modelling"])[0].state_dict()

    threads(1)
    first, other = weights(0), weights(1)
    threads(2)
    again = weights(0)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["model.embed_tokens.weight"], other["model.embed_tokens.weight"])


def test_training_leaves_random_state_and_threads_alone(
    recipes: dict[str, Recipe], threads: Callable[[int], None]
) -> None:
    threads(2)
    state = torch.get_rng_state()
    trained(0, recipes["language-modelling"])
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_num_threads() == 2


def test_an_epoch_has_every_batch_once_and_each_another_order() -> None:
    batches = [{"number": torch.tensor(number)} for number in range(20)]
    drawn = [batch["number"].item() for batch in islice(epochs(batches, 0), 40)]
    assert sorted(drawn[:20]) == sorted(drawn[20:]) == list(range(20))
    assert drawn[:20] != drawn[20:]


def test_masked_tokens_are_the_labels() -> None:
    tokenizer = train_tokenizer(draw("classification"), "classification", 300)
    encoding = tokenizer(
        [record["text"] for record in draw("classification")], padding=True, return_tensors="pt"
    )
    batch = {"input_ids": encoding["input_ids"], "attention_mask": encoding["attention_mask"]}
    with reproducible(0):
        first, second = islice(masked(iter([batch, batch]), tokenizer), 2)
    words = batch["input_ids"] >= len(SPECIAL_TOKENS)
    chosen = first["labels"] != -100
    assert torch.equal(first["labels"][chosen], batch["input_ids"][chosen])
    assert torch.equal(first["input_ids"][~chosen], batch["input_ids"][~chosen])
    assert not (chosen & ~words).any()
    assert chosen.sum() / words.sum() == pytest.approx(0.15, abs=0.02)
    hidden = first["input_ids"][chosen] == tokenizer.mask_token_id
    assert hidden.float().mean() == pytest.approx(0.8, abs=0.06)
    assert not torch.equal(first["labels"], second["labels"])
