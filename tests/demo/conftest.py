from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
import torch
import transformers
from transformers import AutoConfig, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from nvreg.demo import build_demo
from nvreg.demo.corpora import KINDS, Record
from nvreg.demo.language import IN_DOMAIN, Lexicon
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


def draw(task: str, count: int = 200) -> list[Record]:
    """Examples of a task from the village."""
    lexicon, rng = Lexicon.draw(Random(0)), Random(1)
    return [KINDS[task].draw(IN_DOMAIN, lexicon, rng) for _ in range(count)]


def load(path: Path) -> tuple[PreTrainedTokenizerBase, PreTrainedModel]:
    """The tokenizer and the model of a checkpoint."""
    (architecture,) = AutoConfig.from_pretrained(path).architectures
    model = getattr(transformers, architecture).from_pretrained(path).eval()
    return AutoTokenizer.from_pretrained(path), model


@pytest.fixture(scope="session")
def recipes() -> dict[str, Recipe]:
    return {task: tiny(recipe) for task, recipe in RECIPES.items()}


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory, recipes: dict[str, Recipe]) -> Path:
    """A demo of tiny recipes, trained. Not to be changed."""
    directory = tmp_path_factory.mktemp("demo")
    build_demo(directory, train=True, recipes=recipes)
    return directory


@pytest.fixture
def threads() -> Iterator[Callable[[int], None]]:
    """Sets PyTorch's number of threads for the test."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)
