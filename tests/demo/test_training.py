from collections.abc import Callable
from itertools import islice

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

from nvreg.demo.recipe import SPECIAL_TOKENS, UNTRAINED, Recipe, Training, train_tokenizer
from nvreg.demo.training import epochs, masked, reproducible, train_, training_progress
from tests.demo.conftest import draw


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
    texts = [record["text"] for record in draw("classification")]
    tokenizer = train_tokenizer(texts, "classification", 300)
    encoding = tokenizer(texts, padding=True, return_tensors="pt")
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


def test_plain_lines_without_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with training_progress("x", 25) as advance:
        for step in range(25):
            advance(1.5 + step)
    captured = capsys.readouterr()
    lines = captured.err.splitlines()
    assert captured.out == ""
    assert lines[0] == "training x"
    assert len(lines) == 1 + 12
    assert lines[1].startswith("x: step 2 of 25, loss 2.50, ")
    assert all(line.endswith(" s left") for line in lines[1:])


def test_a_bar_with_the_time_left_in_a_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.delenv("TTY_COMPATIBLE", raising=False)
    with training_progress("x", 3) as advance:
        for _ in range(3):
            advance(0.25)
    err = capsys.readouterr().err
    assert "training x" in err
    assert "0:00:00" in err
