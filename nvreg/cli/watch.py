"""``nvreg watch``."""

from pathlib import Path
from typing import Annotated

import typer

Run = Annotated[Path, typer.Argument(metavar="DIR", help="Directory that nvreg sweep writes.")]


def watch(run: Run) -> None:
    """Show how a sweep goes, live in a terminal, from what is on disk.

    Shown are what each protocol would choose so far, the metric that settings are chosen by over the trials,
    trials an hour and the time left, and the last errors. The sweep may run in another terminal, on another
    machine that shares the disk, or be over; it is left alone: nothing is written and no lock is taken.
    Elsewhere than in a terminal a line is printed for every trial. The command ends when the sweep does, or
    with Ctrl-C.

    Example:
        nvreg watch results/my-translator
    """
    from nvreg.watching import watch_run

    watch_run(run)
