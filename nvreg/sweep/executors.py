"""Executors: where jobs are measured, and how many at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from nvreg.sweep.worker import Job, Measured, Worker


class Executor(Protocol):
    """Takes jobs, up to its capacity at a time, and gives back what came of them, in any order."""

    @property
    def capacity(self) -> int:
        """How many jobs it works on at a time."""

    def submit(self, job: Job) -> None:
        """Take a job; no more than ``capacity`` are under way."""

    def next(self) -> tuple[Job, Measured]:
        """Wait for a job that is under way to end; a job's own error is part of what came of it."""

    def close(self) -> None:
        """End; what is under way is lost."""


class Local:
    """Measures in this process, one job at a time."""

    capacity = 1

    def __init__(self, worker: Worker, step: Callable[[], None]) -> None:
        self._worker, self._step = worker, step
        self._job: Job

    def submit(self, job: Job) -> None:
        """Keep the job for `next`."""
        self._job = job

    def next(self) -> tuple[Job, Measured]:
        """Measure the job."""
        return self._job, self._worker.measure(self._job, self._step)

    def close(self) -> None:
        """Do nothing."""
