"""What a sweep tells its user: a live display in a terminal, plain lines elsewhere, nothing when quiet."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from datetime import timedelta
from typing import Self, TypeVar

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar
from rich.table import Table
from rich.text import Text

from nvreg.text import on_one_line, visible

T = TypeVar("T")

SPEED_PERIOD = 3600.0
"""Seconds of steps that the time left is estimated from: single trials differ in length."""


class Progress:
    """Phases, then trials; both in steps."""

    def __init__(self, quiet: bool = False) -> None:
        """Write to standard error, or nothing at all when quiet."""
        self._console = Console(stderr=True, quiet=quiet)
        self.is_live = self._console.is_terminal and not quiet
        self._bar = Bar(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TimeRemainingColumn(),
            console=self._console,
            speed_estimate_period=SPEED_PERIOD,
        )
        self._task = self._bar.add_task("", total=None)
        self._total = self._done = self._left = 0
        self._started = 0.0
        self._running: list[str] = []
        self._leaders: list[tuple[str, str]] = []
        self._live = Live(get_renderable=self._display, console=self._console, transient=True)

    def __enter__(self) -> Self:
        if self.is_live:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def say(self, line: str) -> None:
        """Print a line that stays."""
        self._console.print(visible(line), markup=False, highlight=False, soft_wrap=True)

    def warn(self, lines: Iterable[str]) -> None:
        """Print lines that stay, and that are said when quiet too."""
        console = Console(stderr=True) if self._console.quiet else self._console
        for line in lines:
            console.print(visible(line), markup=False, highlight=False, soft_wrap=True)

    def phase(self, name: str, steps: int | None = None) -> None:
        """Show what is done before the first trial, in how many steps if that is known."""
        self._bar.reset(self._task, total=steps, description=on_one_line(name))
        if not self.is_live:
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
        if left and not self.is_live:
            self.say(f"measuring {left} of {total} trials")

    def step(self, steps: int = 1) -> None:
        """Count steps of a phase, or scored splits of a trial."""
        self._bar.advance(self._task, steps)

    def running(self, settings: Iterable[str]) -> None:
        """Show which settings are being measured."""
        self._running = list(settings)

    def leaders(self, rows: Iterable[tuple[str, str]]) -> None:
        """Show what each protocol would choose so far."""
        self._leaders = list(rows)

    def finish_trial(self, line: str, best: str) -> None:
        """Count a trial; ``line`` says what it measured, ``best`` what the best so far did."""
        self._done += 1
        self._left -= 1
        if not self.is_live:
            seconds = (time.monotonic() - self._started) / self._done * self._left
            self.say(f"{self._count()}: {line}; {best}; {timedelta(seconds=round(seconds))} left")
        self._bar.update(self._task, description=self._count())

    def _count(self) -> str:
        return f"{self._total - self._left} of {self._total} trials"

    def _display(self) -> Group:
        table = Table.grid(padding=(0, 2))
        for name, setting in (*(("running", line) for line in self._running), *self._leaders):
            table.add_row(
                Text(on_one_line(name)), Text(on_one_line(setting), overflow="ellipsis", no_wrap=True)
            )
        return Group(self._bar, table)
