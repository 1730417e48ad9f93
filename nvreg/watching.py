"""A sweep seen from outside: what the files in its directory tell of how it goes. None is written."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from statistics import fmean, median

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from nvreg.errors import UserError
from nvreg.files import is_held
from nvreg.metrics import METRICS
from nvreg.report.reading import Arm, Run, read_run
from nvreg.report.selection import leaders_of, setting_text
from nvreg.results import PRETRAINED_NUMBER, RunFiles, Trial, read_trials
from nvreg.text import on_one_line, visible

BARS = "▁▂▃▄▅▆▇█"
"""What a score is drawn as, the better the higher."""

MARKS = {"stopped": "·", "failed": "!"}
"""What a trial without a score is drawn as."""

SHOWN = 60
"""Trials of a method that are drawn, the last ones."""

RECENT = 20
"""Trials that the pace is told from, the last ones."""

PAUSE = 10.0
"""A time between trials that is so many times the usual one is no part of the pace: nothing was running."""

ERRORS = 3
"""Errors that are shown, the last ones."""

IDLE = 60.0
"""Seconds without a trial, at least, after which a sweep that another machine runs counts as over."""

SECONDS_BETWEEN_LOOKS = 2.0


@dataclass(frozen=True)
class Status:
    """How a sweep goes.

    Attributes:
        run: what it has finished so far; None before the pretrained model is measured.
        leaders: by arm, each honest protocol and what it would choose.
        pace: seconds from one trial to the next; None where that cannot be told.
        is_running: whether it seems to go on.
    """

    run: Run | None
    leaders: dict[Arm, list[tuple[str, str]]]
    pace: float | None
    is_running: bool

    @property
    def trials(self) -> list[Trial]:
        """All settings that are finished, in the order of their numbers."""
        found = [trial for trials in self.run.sweeps.values() for trial in trials] if self.run else []
        return sorted(found, key=lambda trial: trial.number)

    @property
    def left(self) -> int:
        """How many settings are planned and not finished."""
        return max(0, self.run.planned - len(self.trials)) if self.run else 0

    def headline(self) -> str:
        """Return in one line how far the sweep is."""
        if self.run is None:
            return "the pretrained model is being measured" if self.is_running else "nothing is measured yet"
        total, done = 1 + self.run.planned, 1 + len(self.trials)
        said = [f"{done} of {total} trials"]
        said += [f"{count} {status}" for status in MARKS if (count := self.run.count(status))]
        if self.pace and self.left:
            said.append(f"{3600 / self.pace:.3g} an hour")
            said.append(f"{timedelta(seconds=round(self.pace * self.left))} left")
        if not self.is_running:
            said.append(
                "the sweep is over" if not self.left else "no sweep is running; run it again to continue"
            )
        return f"{self.run.experiment.name}, {self.run.experiment.task}: {', '.join(said)}"


def watch_run(
    directory: Path, console: Console | None = None, pause: Callable[[float], None] = time.sleep
) -> None:
    """Show how a sweep goes until it is over, or the user interrupts.

    Args:
        directory: what `nvreg sweep` writes; it is only read.
        console: where to; by default standard output.
        pause: waits for some seconds.

    Raises:
        UserError: if the directory is not a run's.
    """
    files = RunFiles(directory)
    for path in (files.manifest, files.experiment):
        if not path.is_file():
            raise UserError(
                f"expected a directory that nvreg sweep writes, got {directory} without {path.name}; "
                "start the sweep first, or name the directory of its results"
            )
    console = console or Console()
    looks = _looks(files, pause)
    try:
        if console.is_terminal:
            with Live(console=console, auto_refresh=False) as live:
                for status in looks:
                    live.update(_display(status), refresh=True)
        else:
            _print_lines(looks, console)
    except KeyboardInterrupt:
        return


def _looks(files: RunFiles, pause: Callable[[float], None]) -> Iterator[Status]:
    """Yield how the sweep goes, again and again, until it is over."""
    seen, status = None, None
    while True:
        began = time.monotonic()
        is_running = is_held(files.directory)
        if status is None or _change(files) != seen:
            seen = _change(files)
            run = _read(files, status.run if status else None)
            status = Status(run, _leaders(run), _pace(run) if run else None, bool(is_running))
        if is_running is None:
            is_running = _is_recent(files, status)
        status = replace(status, is_running=is_running)
        yield status
        if not status.is_running:
            return
        pause(max(SECONDS_BETWEEN_LOOKS, 4 * (time.monotonic() - began)))


def _print_lines(looks: Iterator[Status], console: Console) -> None:
    said: set[int] = set()
    last = None
    for status in looks:
        new = [trial for trial in status.trials if trial.number not in said]
        said |= {trial.number for trial in new}
        if last is None and status.is_running:
            _print(console, status.headline())
        elif last is not None and new and status.run:
            for trial in new:
                _print(console, f"trial {trial.number}: {_outcome(status.run, trial)}")
            _print(console, status.headline())
        last = status
    if last is not None:
        for line in _lines(last):
            _print(console, line)


def _print(console: Console, line: str) -> None:
    console.print(visible(line), markup=False, highlight=False, soft_wrap=True)


def _lines(status: Status) -> Iterator[str]:
    """Yield everything there is to say of a sweep as plain lines."""
    yield status.headline()
    if status.run is None:
        return
    for arm in status.run.sweeps:
        yield f"{status.run.label(arm)}: {_sparkline(status.run, arm)} {_best(status.run, arm)}"
        for protocol, choice in status.leaders.get(arm, ()):
            yield f"  {protocol}: {choice}"
    yield from _errors(status)


def _display(status: Status) -> Group:
    """Return everything there is to say of a sweep for a terminal."""
    parts: list[Text | Table] = [Text(on_one_line(status.headline()), style="bold")]
    parts += [  # above the table, whose end a low terminal cuts
        Text(on_one_line(line), style="red", overflow="ellipsis", no_wrap=True) for line in _errors(status)
    ]
    if run := status.run:
        table = Table.grid(padding=(0, 2))
        for arm in run.sweeps:
            table.add_row(
                Text(on_one_line(run.label(arm)), style="bold"),
                Text(_sparkline(run, arm)),
                Text(on_one_line(_best(run, arm)), overflow="ellipsis", no_wrap=True),
            )
            for protocol, choice in status.leaders.get(arm, ()):
                table.add_row(
                    "",
                    Text(on_one_line(protocol)),
                    Text(on_one_line(choice), overflow="ellipsis", no_wrap=True),
                )
        parts.append(table)
    return Group(*parts)


def _outcome(run: Run, trial: Trial) -> str:
    """Return what came of a trial in a few words."""
    name = setting_text(trial, with_method=True)
    if trial.status == "completed":
        return f"{run.selection_metric} {_score(run, trial):.4g} ({name})"
    return f"{trial.error or 'stopped, clearly worse'} ({name})"


def _errors(status: Status) -> list[str]:
    failed = [trial for trial in status.trials if trial.status == "failed"]
    return [
        f"trial {trial.number} failed: {trial.error} ({setting_text(trial, with_method=True)})"
        for trial in failed[-ERRORS:]
    ]


def _best(run: Run, arm: Arm) -> str:
    """Return the best setting of an arm in domain, and the pretrained model beside it."""
    sign = 1 if METRICS[run.selection_metric].higher_is_better else -1
    pretrained = run.trials[PRETRAINED_NUMBER]
    best = max((run.trials[each] for each in run.candidates(arm)), key=lambda each: sign * _score(run, each))
    said = f"{run.selection_metric} {_score(run, pretrained):.4g} as pretrained"
    if not run.sweeps[arm]:
        return f"{said}, no setting tried yet"
    if best is pretrained:
        return f"none better than {said}"
    return f"best {_score(run, best):.4g}, {said} ({setting_text(best)})"  # the best, where a line is cut


def _score(run: Run, trial: Trial) -> float:
    return run.score(trial.number, run.in_domain, "validation", run.selection_metric)


def _sparkline(run: Run, arm: Arm) -> str:
    """Return the scores of an arm's trials as bars, the better the higher, on in-domain validation."""
    sign = 1 if METRICS[run.selection_metric].higher_is_better else -1
    trials = run.sweeps[arm][-SHOWN:]
    scores = [sign * _score(run, trial) if trial.status == "completed" else math.nan for trial in trials]
    finite = [score for score in scores if math.isfinite(score)]
    return "".join(
        _bar(score, finite) if trial.status == "completed" else MARKS[trial.status]
        for trial, score in zip(trials, scores, strict=True)
    )


def _bar(score: float, among: Sequence[float]) -> str:
    if not math.isfinite(score):
        return BARS[0]
    low, high = min(among), max(among)
    share = (score - low) / (high - low) if high > low else 1.0
    return BARS[round(share * (len(BARS) - 1))]


def _change(files: RunFiles) -> tuple[int, ...]:
    """Return what is another where something has been written."""
    there = [path.stat() for path in (files.trials, files.manifest) if path.is_file()]
    return tuple(number for each in there for number in (each.st_size, each.st_mtime_ns))


def _read(files: RunFiles, earlier: Run | None) -> Run | None:
    """Return what is finished; None where the pretrained model is not.

    Args:
        files: the run's.
        earlier: what was finished before.

    Raises:
        UserError: if what is there is broken.
    """
    trials = read_trials(files.trials) if files.trials.is_file() and files.trials.stat().st_size else ()
    if not any(trial.number == PRETRAINED_NUMBER and trial.status == "completed" for trial in trials):
        return None
    return read_run(files.directory, earlier)


def _leaders(run: Run | None) -> dict[Arm, list[tuple[str, str]]]:
    return {arm: list(leaders_of(run, arm)) for arm in run.sweeps if run.is_measured(arm)} if run else {}


def _pace(run: Run) -> float | None:
    """Return the seconds from one trial to the next, told by when the files of the last ones were written."""
    files, trials = RunFiles(run.directory), [each for arm in run.sweeps.values() for each in arm]
    written = (_written(files, run, trial) for trial in run.trials.values())
    finished = sorted(each for each in written if each is not None)
    gaps = [later - earlier for earlier, later in pairwise(finished[-RECENT:])]
    if not gaps or not (usual := median(gaps)):
        return fmean(each.seconds for each in trials) if trials else None
    gap = fmean(each for each in gaps if each <= PAUSE * usual)
    completed = sum(trial.status == "completed" for trial in trials)
    return gap * completed / len(trials) if completed else gap


def _written(files: RunFiles, run: Run, trial: Trial) -> float | None:
    folder = files.examples(trial.key, run.in_domain, "validation").parent
    return folder.stat().st_mtime if folder.is_dir() else None


def _is_recent(files: RunFiles, status: Status) -> bool:
    """Return whether a sweep of another machine wrote something so lately that it may go on."""
    if status.run is not None and not status.left:
        return False
    there = files.trials if files.trials.is_file() else files.manifest
    return time.time() - there.stat().st_mtime < max(IDLE, PAUSE * (status.pace or 0))
