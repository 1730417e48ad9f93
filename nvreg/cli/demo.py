"""``nvreg demo``."""

from pathlib import Path
from typing import Annotated

import typer

Directory = Annotated[Path, typer.Argument(metavar="DIR", help="Where to write; made if absent.")]
Seed = Annotated[int, typer.Option(help="Another seed gives another language and another model.")]


def demo(directory: Directory, seed: Seed = 0) -> None:
    """Write the built-in corpora and train the built-in models, in a minute or two on two cores.

    A demo that is already complete is left as it is.
    """
    from nvreg.demo import build_demo

    build_demo(directory, seed)
