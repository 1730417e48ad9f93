"""Making the demo: corpora, and the models that come with nvreg or are trained anew."""

from __future__ import annotations

import json
import os
import platform
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nvreg.demo.corpora import digest_of, read_records, write_corpora
from nvreg.demo.language import IN_DOMAIN
from nvreg.demo.recipe import RECIPES, Recipe
from nvreg.errors import UserError, expected_one_of
from nvreg.files import whole_directory, write_bytes, write_text
from nvreg.text import visible

if TYPE_CHECKING:
    from numpy.typing import DTypeLike

BUILT_IN = Path(__file__).parent / "checkpoints"
"""The checkpoints that come with nvreg, a folder a task, with weights in float16."""

FIGURES = "figures.json"
"""The file beside a task's checkpoints that says what they were made from, and how well they do."""

WEIGHTS = "model.safetensors"
STAMP = ".nvreg-demo"
"""The file whose content names what a directory was made from."""


def build_demo(
    directory: Path,
    tasks: Sequence[str] | None = None,
    seed: int = 0,
    *,
    train: bool = False,
    recipes: Mapping[str, Recipe] = RECIPES,
) -> None:
    """Write ``TASK/<domain>/<split>.jsonl`` and ``TASK/model`` under ``directory``, once.

    The corpora depend on task, seed and recipe alone. The checkpoints that come with nvreg are the same
    everywhere; models that are trained depend on the processor too, as it rounds sums in its own way.

    Args:
        directory: made if absent.
        tasks: by default all.
        seed: the seed of language, texts and weights.
        train: train the models, instead of writing out those that come with nvreg.
        recipes: by task.

    Raises:
        UserError: if there is no such task, or no model of the seed, or none of these corpora, comes with
            nvreg, or the directory cannot be written, or holds a folder of a task that was not made here.
    """
    tasks = tasks or list(recipes)
    for task in tasks:
        if task not in recipes:
            raise UserError(f"--task: {expected_one_of(recipes, task)}")
        if not train and recipes[task].digest(task, seed) != (figures := _figures(BUILT_IN / task))["digest"]:
            raise UserError(
                f"expected --seed {figures['seed']} and the recipe of the models that come with nvreg, "
                f"got seed {seed}; to have models of another trained, add --train"
            )
    for task in tasks:
        recipe, made = recipes[task], directory / task
        stamp = recipe.digest(task, seed) + (" trained" if train else "")
        if is_made(made, stamp):
            print(visible(f"{made} is complete: nothing to do"))
            continue
        with staged(made, stamp) as aside:
            write_corpora(aside, task, seed, recipe)
            if train:
                figures = _train(aside, task, recipe, seed)
                write_text(aside / FIGURES, json.dumps(figures, indent=2) + "\n")
            else:
                _write_built_in(aside, task)
        print(visible(f"wrote {made}: {_quality(_figures(made))}"))


def copy_checkpoints(source: Path, target: Path, dtype: DTypeLike) -> None:
    """Copy a task's checkpoints and their figures, without its corpora, and cast the weights.

    The weights have values that float16 can hold (`nvreg.demo.training.make_model`), so that no cast between
    it and float32 changes one.
    """
    from safetensors.numpy import load_file, save

    for weights in sorted(source.glob(f"*/{WEIGHTS}")):
        checkpoint = target / weights.parent.name
        shutil.copytree(weights.parent, checkpoint, ignore=lambda *_: [WEIGHTS], dirs_exist_ok=True)
        tensors = {name: tensor.astype(dtype) for name, tensor in load_file(weights).items()}
        write_bytes(checkpoint / WEIGHTS, save(tensors, metadata={"format": "pt"}))
    shutil.copy(source / FIGURES, target / FIGURES)


def is_made(directory: Path, stamp: str) -> bool:
    """Return whether ``directory`` was made, from what ``stamp`` names."""
    file = directory / STAMP
    return file.is_file() and file.read_text(encoding="utf-8") == stamp


@contextmanager
def staged(directory: Path, stamp: str) -> Iterator[Path]:
    """Yield an empty directory that becomes ``directory``, stamped, when the block ends without an error.

    A kill leaves at most hidden directories beside it, which the next attempt removes. Of two attempts at
    once, one has its place in the end.

    Raises:
        UserError: if ``directory`` cannot be made, or holds what was not made here.
    """
    if os.path.lexists(directory) and not (directory / STAMP).is_file():
        raise UserError(
            f"expected {directory} to be absent or of an earlier demo, got other files in it: "
            "move them away or name another directory"
        )
    with whole_directory(
        directory.resolve() if directory.is_symlink() else directory, replacing=True
    ) as aside:
        yield aside
        write_text(aside / STAMP, stamp)


def _figures(directory: Path) -> dict[str, Any]:
    figures: dict[str, Any] = json.loads((directory / FIGURES).read_text(encoding="utf-8"))
    return figures


def _write_built_in(directory: Path, task: str) -> None:
    copy_checkpoints(BUILT_IN / task, directory, "float32")
    if digest_of(directory) != _figures(directory)["corpora"]:
        raise UserError(
            "expected the corpora that the models of nvreg were trained on, got others: Python "
            f"{platform.python_version()} draws otherwise; use another Python, or add --train"
        )


def _train(directory: Path, task: str, recipe: Recipe, seed: int) -> dict[str, Any]:
    """Train and save the model of a task, and say from what it is made and how well it does."""
    from nvreg.demo.quality import MEASURES, baseline_scores, model_score
    from nvreg.demo.training import make_model
    from nvreg.environment import environment

    model, tokenizer = make_model(directory, task, recipe, seed)
    train, held_out = (
        read_records(directory / IN_DOMAIN.name / f"{split}.jsonl") for split in ("train", "validation")
    )
    made_with = environment("cpu")
    return {
        "task": task,
        "measure": MEASURES[task],
        "score": model_score(task, model, tokenizer, held_out),
        "baselines": baseline_scores(task, tokenizer, train, held_out),
        "of": f"{IN_DOMAIN.name} validation",
        "seed": seed,
        "recipe": asdict(recipe),
        "digest": recipe.digest(task, seed),
        "corpora": digest_of(directory),
        "versions": {"nvreg": made_with["nvreg"], **made_with["versions"]},
        "hardware": made_with["hardware"],
    }


def _quality(figures: Mapping[str, Any]) -> str:
    beside = ", ".join(f"{name} {value:.3g}" for name, value in figures["baselines"].items())
    return f"{figures['measure']} {figures['score']:.3g} on {figures['of']} ({beside})"
