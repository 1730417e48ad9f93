"""Progress of a training: a bar with the time left in a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

LINES = 10
"""Lines that a whole training prints where there is no terminal."""


@contextmanager
def training_progress(name: str, steps: int) -> Iterator[Callable[[float], None]]:
    """Show ``steps`` steps of a training on standard error; yields what to call with the loss after each."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _lines(name, steps, console)
        return
    columns = (
        TextColumn(f"training {name}"),
        BarColumn(),
        TimeRemainingColumn(),
        TextColumn("loss {task.fields[loss]}"),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("", total=steps, loss="")
        yield lambda loss: bar.update(task, advance=1, loss=f"{loss:.2f}")


def _lines(name: str, steps: int, console: Console) -> Callable[[float], None]:
    started, done = time.monotonic(), 0

    def advance(loss: float) -> None:
        nonlocal done
        done += 1
        if done % max(1, steps // LINES) == 0:
            left = (time.monotonic() - started) / done * (steps - done)
            console.print(
                f"training {name}: step {done} of {steps}, loss {loss:.2f}, {left:.0f} s left",
                highlight=False,
            )

    return advance
