"""What tests of whole sweeps look at, and how they make one fail."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from nvreg.results import Trial, digest, read_trials
from nvreg.sweep.worker import Worker


def trials_in(output: Path) -> list[Trial]:
    """The trials without the one thing that no two runs share."""
    return [replace(trial, seconds=0.0) for trial in read_trials(output / "trials.jsonl")]


def rewrite_trials(output: Path, change: Callable[[dict], None], *, digested: bool = False) -> None:
    """Change every line of a run's trials, as an earlier version wrote them, or with digests."""
    path = output / "trials.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    for line in lines:
        change(line)
        line.pop("digest", None)
        if digested:
            line["digest"] = digest(dict(line))
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def fail_at(monkeypatch, number: int, error: BaseException) -> None:
    """Let the measuring of the number-th settings from here on fail."""
    measure, calls = Worker._measured, []

    def failing(self, job, step):
        calls.append(job)
        if len(calls) == number:
            raise error
        return measure(self, job, step)

    monkeypatch.setattr(Worker, "_measured", failing)
