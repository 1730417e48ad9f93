from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from nvreg.demo import build_demo
from nvreg.demo.recipe import RECIPES, Recipe, Training


def tiny(recipe: Recipe) -> Recipe:
    """The recipe with a corpus, a model and a training that take a moment."""
    training = Training(steps=4, warmup_steps=1, batch_tokens=400)
    return replace(
        recipe,
        training=training,
        pretraining=training if recipe.pretraining else None,
        training_examples=60,
        validation_examples=6,
        test_examples=8,
        vocabulary=200,
        width=32,
        feed_forward=32,
        layers=1,
        heads=2,
    )


@pytest.fixture(scope="session")
def recipes() -> dict[str, Recipe]:
    return {task: tiny(recipe) for task, recipe in RECIPES.items()}


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory, recipes: dict[str, Recipe]) -> Path:
    """A demo of tiny recipes. Not to be changed."""
    directory = tmp_path_factory.mktemp("demo")
    build_demo(directory, recipes=recipes)
    return directory


@pytest.fixture
def threads() -> Iterator[Callable[[int], None]]:
    """Sets PyTorch's number of threads for the test."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)
