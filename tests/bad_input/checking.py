"""What every mistake has to end in: one line that says where it is, within seconds, and nothing written."""

import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import nvreg.finetune.training
import nvreg.sweep.runner  # noqa: F401 - what commands import takes seconds, which are no command's own
from nvreg.errors import UserError
from tests.cli.running import run

SECONDS = 10
"""What nothing may take longer than, in time of this process's own: a busy machine makes nothing slower."""

WAITING = 300
"""What nothing may take longer than on the clock, as what waits takes no time of its own."""


def one_in(every: int, cases: Sequence[Any], names: Sequence[str]) -> list[Any]:
    """Return every case as a parameter, of which all but one in so many are left to ``make test-faults``."""
    return [
        pytest.param(case, id=name, marks=() if number % every == 0 else pytest.mark.faults)
        for number, (case, name) in enumerate(zip(cases, names, strict=True))
    ]


@contextmanager
def in_time(seconds: int = SECONDS) -> Iterator[None]:
    """Fail what does not end."""

    def stop(number: int, _: object) -> None:
        raise AssertionError(
            f"it took more than {seconds} seconds of processors"
            if number == signal.SIGPROF
            else f"it waited for {WAITING} seconds"
        )

    before = {each: signal.signal(each, stop) for each in (signal.SIGPROF, signal.SIGALRM)}
    signal.setitimer(signal.ITIMER_PROF, seconds)
    signal.setitimer(signal.ITIMER_REAL, WAITING)
    try:
        yield
    finally:
        for timer in (signal.ITIMER_PROF, signal.ITIMER_REAL):
            signal.setitimer(timer, 0)
        for each, handler in before.items():
            signal.signal(each, handler)


def check_line(line: str, *names: str) -> None:
    """Check that a message is one line, not too long, that has the names."""
    assert "\n" not in line
    assert 10 < len(line) < 1500, line
    for name in names:
        assert name in line


def mistake_of(function: Any, *arguments: Any, **options: Any) -> str | None:
    """Return the message of the mistake that a function reports, None where it reports none."""
    with in_time():
        try:
            function(*arguments, **options)
        except UserError as error:
            return str(error)
    return None


def files_of(directory: Path) -> dict[str, int]:
    """Return the files below a directory with their sizes."""
    return {
        str(path.relative_to(directory)): path.stat().st_size if path.is_file() else -1
        for path in sorted(directory.rglob("*"))
    }


def check_refused(directory: Path, arguments: Sequence[object], *names: str) -> str:
    """Run a command in this process and check that it is refused as everything is.

    Args:
        directory: where nothing may be written.
        arguments: of the command.
        names: what its line has.

    Returns:
        The line.
    """
    before = files_of(directory)
    with in_time():
        result = run(*arguments)
    assert result.exit_code == 2, f"exit code {result.exit_code}: {result.output} {result.exception!r}"
    assert "Traceback" not in result.output
    line = next((each for each in reversed(result.stderr.splitlines()) if each.startswith("nvreg: ")), "")
    check_line(line, *names)
    assert files_of(directory) == before
    return line
