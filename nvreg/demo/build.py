"""Making the demo: corpora, and models trained on them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from nvreg.demo.corpus import read_records, write_corpora
from nvreg.demo.domains import IN_DOMAIN
from nvreg.demo.recipe import RECIPES, Recipe
from nvreg.demo.staging import is_made, staged
from nvreg.errors import UserError


def build_demo(
    directory: Path,
    tasks: Sequence[str] | None = None,
    seed: int = 0,
    recipes: Mapping[str, Recipe] = RECIPES,
) -> None:
    """Write ``TASK/<domain>/<split>.jsonl`` and ``TASK/model`` under ``directory``, once.

    The corpora depend on task, seed and recipe alone; the models, to rounding, on the machine too.

    Args:
        directory: made if absent.
        tasks: by default all.
        seed: of language, texts and weights.
        recipes: by task.

    Raises:
        UserError: if there is no such task, or the directory cannot be written, or holds a folder of a task
            that was not made here.
    """
    for task in tasks or recipes:
        if task not in recipes:
            raise UserError(f"--task: expected one of {', '.join(recipes)}, got {task!r}")
    for task in tasks or recipes:
        recipe = recipes[task]
        made, stamp = directory / task, recipe.digest(task, seed)
        if is_made(made, stamp):
            print(f"{made} is complete: nothing to do")
            continue
        with staged(made, stamp) as aside:
            write_corpora(aside, task, seed, recipe)
            quality = _make_model(aside, task, recipe, seed)
        print(f"wrote {made}: {quality}")


def _make_model(directory: Path, task: str, recipe: Recipe, seed: int) -> str:
    """Train and save the model of a task, and say how well it does."""
    from nvreg.demo.making import make_model
    from nvreg.demo.quality import MEASURES, baseline_scores, model_score

    model, tokenizer = make_model(directory, task, recipe, seed)
    train, held_out = (
        read_records(directory / IN_DOMAIN.name / f"{split}.jsonl") for split in ("train", "validation")
    )
    score = model_score(task, model, tokenizer, held_out)
    baselines = baseline_scores(task, tokenizer, train, held_out)
    beside = ", ".join(f"{name} {value:.3g}" for name, value in baselines.items())
    return f"{MEASURES[task]} {score:.3g} on {IN_DOMAIN.name} validation ({beside})"
