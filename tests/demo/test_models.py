"""The models of the demo before training: what `nvreg.demo.models` decides beside their sizes."""

import pytest
import torch
from torch import nn
from transformers import PreTrainedModel

from nvreg.demo.making import UNTRAINED
from nvreg.demo.models import STD, STD_WITH_POSITIONS
from nvreg.demo.recipe import RECIPES, Recipe

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
