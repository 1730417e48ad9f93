"""Tokenizers, and the models before training: what `nvreg.demo.recipe` decides beside their sizes."""

import pytest
import torch
from torch import nn
from transformers import PreTrainedModel

from nvreg.demo.recipe import RECIPES, STD, STD_WITH_POSITIONS, UNTRAINED, Recipe, train_tokenizer
from tests.demo.conftest import draw

TASKS = pytest.mark.parametrize("task", RECIPES)


@pytest.fixture(scope="module")
def untrained(recipes: dict[str, Recipe]) -> dict[str, PreTrainedModel]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return {task: UNTRAINED[task](recipe) for task, recipe in recipes.items()}


@TASKS
def test_only_the_classifier_has_dropout(untrained: dict[str, PreTrainedModel], task: str) -> None:
    config = untrained[task].config.to_dict()
    rates = {value for name, value in config.items() if name.endswith(("dropout", "dropout_prob")) and value}
    modules = {module.p for module in untrained[task].modules() if isinstance(module, nn.Dropout)}
    assert rates | modules <= ({0.1} if task == "classification" else {0.0})
    assert (0.1 in modules) == (task == "classification")


@TASKS
def test_weights_begin_as_wide_as_the_model_learns_best_from(
    untrained: dict[str, PreTrainedModel], task: str
) -> None:
    linear = [module.weight for module in untrained[task].modules() if isinstance(module, nn.Linear)]
    std = torch.cat([weight.detach().flatten() for weight in linear]).std().item()
    assert std == pytest.approx(STD_WITH_POSITIONS if task == "summarisation" else STD, rel=0.1)


@pytest.mark.parametrize("task", ["translation", "summarisation"])
def test_embeddings_are_scaled_as_positions_want_it(untrained: dict[str, PreTrainedModel], task: str) -> None:
    encoder = untrained[task].get_encoder()
    scaled = encoder if task == "translation" else encoder.embed_tokens
    assert scaled.embed_scale == pytest.approx(encoder.config.d_model**0.5)


@TASKS
def test_tokenizer_is_reversible_and_deterministic(task: str) -> None:
    texts = [text for record in draw(task) for text in record.values()]
    tokenizer = train_tokenizer(texts, task, 300)
    assert len(tokenizer) == 300
    for text in texts[:100]:
        ids = tokenizer(text)["input_ids"]
        assert tokenizer.unk_token_id not in ids
        assert tokenizer.decode(ids, skip_special_tokens=True) == text
    again = train_tokenizer(texts, task, 300)
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
    tokenizer = train_tokenizer((text for record in draw(task) for text in record.values()), task, 300)
    ids = tokenizer("sul lowa.")["input_ids"]
    assert (ids[0] == tokenizer.bos_token_id, ids[-1] == tokenizer.eos_token_id) == (first, last)
