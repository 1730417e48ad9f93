"""What a sweep tells its user: a live line in a terminal, plain lines elsewhere, nothing when quiet."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Self, TypeVar

from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

T = TypeVar("T")

SPEED_PERIOD = 3600.0
"""Seconds of steps that the time left is estimated from: single trials differ in length."""


class Progress:
    """Phases, then trials; both in steps."""

    def __init__(self, quiet: bool = False) -> None:
        """Write to standard error, or nothing at all when quiet."""
        self._console = Console(stderr=True, quiet=quiet)
        self._bar = Bar(
            TextColumn("{task.description}"),
            BarColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
            console=self._console,
            disable=not self._console.is_terminal,
            transient=True,
            speed_estimate_period=SPEED_PERIOD,
        )
        self._task = self._bar.add_task("", total=None, note="")
        self._total = self._done = self._left = 0
        self._started = 0.0

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def say(self, line: str) -> None:
        """Print a line that stays."""
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)

    def phase(self, name: str, steps: int | None = None) -> None:
        """Show what is done before the first trial, in how many steps if that is known."""
        self._bar.reset(self._task, total=steps, description=name)
        if not self._console.is_terminal:
            self.say(name)

    def over(self, name: str, items: Sequence[T]) -> Iterator[T]:
        """Yield the items of a phase, a step each."""
        self.phase(name, len(items))
        for item in items:
            yield item
            self.step()

    def start(self, total: int, left: int, steps: int) -> None:
        """Show that ``left`` of ``total`` trials are to be measured, in ``steps`` steps each."""
        self._total, self._left, self._started = total, left, time.monotonic()
        self._bar.reset(self._task, total=left * steps, description=self._count())

    def step(self, steps: int = 1) -> None:
        """Count steps of a phase, or scored splits of a trial."""
        self._bar.advance(self._task, steps)

    def finish_trial(self, line: str, best: str) -> None:
        """Count a trial; ``line`` says what it measured, ``best`` what the best so far did."""
        self._done += 1
        self._left -= 1
        if not self._console.is_terminal:
            seconds = (time.monotonic() - self._started) / self._done * self._left
            self.say(f"{self._count()}: {line}; {best}; {timedelta(seconds=round(seconds))} left")
        self._bar.update(self._task, description=self._count(), note=best)

    def _count(self) -> str:
        return f"{self._total - self._left} of {self._total} trials"
