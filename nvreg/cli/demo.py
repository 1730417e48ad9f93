"""``nvreg demo``."""

from pathlib import Path
from typing import Annotated

import typer

Directory = Annotated[Path, typer.Argument(metavar="DIR", help="Where to write; made if absent.")]
Tasks = Annotated[
    list[str] | None,
    typer.Option("--task", help="Make this one alone, repeatable.", show_default="all"),
]
Seed = Annotated[int, typer.Option(help="Another seed gives another language and other models.")]


def demo(directory: Directory, tasks: Tasks = None, seed: Seed = 0) -> None:
    """Write the built-in corpora and train a small model on each, in five minutes on one core.

    The tasks are translation, classification, language-modelling and summarisation. What is already complete
    is left as it is.
    """
    from nvreg.demo import build_demo

    build_demo(directory, tasks, seed)
