"""``nvreg demo``."""

from pathlib import Path
from typing import Annotated

import typer

from nvreg.cli.options import names_in

Directory = Annotated[Path, typer.Argument(metavar="DIR", help="Where to write; made if absent.")]
Tasks = Annotated[
    list[str] | None,
    typer.Option(
        "--task",
        help="Make this one alone, repeatable.",
        show_default="all",
        autocompletion=names_in("nvreg.demo.recipe:RECIPES"),
    ),
]
Seed = Annotated[
    int, typer.Option(help="Another seed gives another language, and needs --train for its models.")
]
Train = Annotated[
    bool,
    typer.Option("--train", help="Train the models anew, in five minutes on one core."),
]


def demo(directory: Directory, tasks: Tasks = None, seed: Seed = 0, train: Train = False) -> None:
    """Write the built-in corpora, and a small model of each that was trained on it.

    The tasks are translation, classification, language-modelling and summarisation, all in an invented
    language, with one domain that the model was trained on and four that differ from it. What is already
    complete is left as it is.

    Example:
        nvreg demo demo

        nvreg demo demo --task classification
    """
    from nvreg.demo import build_demo

    build_demo(directory, tasks, seed, train=train)
