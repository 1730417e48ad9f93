"""Executors: where jobs are measured, and how many at a time: in this process, or by Ray actors anywhere."""

from __future__ import annotations

import json
import logging
import socket
import warnings
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from nvreg.errors import NvregWarning, UserError
from nvreg.experiment import Experiment
from nvreg.files import differences, write_text
from nvreg.results import BatchSize
from nvreg.sweep.manifest import subject_of
from nvreg.sweep.workbench import open_workbench
from nvreg.sweep.worker import Job, Measured, Worker
from nvreg.text import whole_number

if TYPE_CHECKING:
    from torch import Tensor

    from nvreg.sweep.workbench import Priors

MAX_DEATHS = 3
"""How many workers may die over one job before the job counts as failed."""

KILLED = (
    "the system killed the process that measured it for lack of memory; a smaller evaluation.batch_tokens "
    "needs less, and --retry-failed measures it again"
)
"""The error of a trial whose process did not live to say it."""

SECONDS_TO_REACH = 10
"""How long a cluster's address may take to answer."""


class Executor(Protocol):
    """Takes jobs, up to its capacity at a time, and gives back what came of them, in any order."""

    @property
    def capacity(self) -> int:
        """How many jobs it works on at a time."""

    @property
    def device(self) -> str:
        """The kind of device that it measures on."""

    def find_batch_size(self) -> BatchSize:
        """Return how much is best scored at a time on that device."""

    def submit(self, job: Job) -> None:
        """Take a job; no more than ``capacity`` are under way."""

    def next(self) -> tuple[Job, Measured]:
        """Wait for a job that is under way to end; a job's own error is part of what came of it."""

    def close(self) -> None:
        """End; what is under way is lost."""


class UnderWay:
    """A note on disk of what this process measures, from which the next one knows if it was killed for it.

    A process that the system kills for lack of memory cannot say so. The next one takes the job for the
    reason if the system has killed for memory since the note was written, and measures it again otherwise.

    Args:
        path: the note's file; only one process at a time may have it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._killed: str | None = None
        with suppress(OSError, ValueError, RecursionError, LookupError, TypeError):
            found = json.loads(path.read_text(encoding="utf-8"))
            self._killed = found["key"] if found["kills"] < _kills_for_memory() else None
        path.unlink(missing_ok=True)

    def was_killed_for_memory(self, key: str) -> bool:
        """Return whether the process before this one was killed for memory while it measured a trial."""
        return key == self._killed

    @contextmanager
    def noted(self, key: str) -> Iterator[None]:
        """Have the key of a trial noted, until it ends in any way but a kill."""
        with suppress(OSError):  # what is wrong with the directory is said when the trial is kept
            write_text(self._path, json.dumps({"key": key, "kills": _kills_for_memory()}) + "\n")
        try:
            yield
        finally:
            self._path.unlink(missing_ok=True)


def _kills_for_memory() -> int:
    """Return how many processes the system has killed for lack of memory; 0 where it does not count them."""
    with suppress(OSError):
        for line in Path("/proc/vmstat").read_text(encoding="utf-8").splitlines():
            name, _, count = line.partition(" ")
            if name == "oom_kill":
                return int(count)
    return 0


class Local:
    """Measures in this process, one job at a time.

    Args:
        worker: measures.
        step: called after each split of the data.
        under_way: notes what is measured.
    """

    capacity = 1

    def __init__(self, worker: Worker, step: Callable[[], None], under_way: UnderWay) -> None:
        self._worker, self._step, self._under_way = worker, step, under_way
        self._job: Job
        self.device = worker.device

    def find_batch_size(self) -> BatchSize:
        """Try the worker, before its first job."""
        return self._worker.find_batch_size()

    def submit(self, job: Job) -> None:
        """Keep the job for `next`."""
        self._job = job

    def next(self) -> tuple[Job, Measured]:
        """Measure the job."""
        if self._under_way.was_killed_for_memory(self._job.key):
            return self._job, _failed(KILLED)
        with self._under_way.noted(self._job.key):
            return self._job, self._worker.measure(self._job, self._step)

    def close(self) -> None:
        """Do nothing."""


@dataclass(frozen=True)
class Resources:
    """What workers are given.

    Attributes:
        workers: how many there are; by default one for every ``gpus_per_worker`` GPUs, or else one for every
            ``cpus_per_worker`` CPUs.
        cpus_per_worker: CPU cores and threads of each.
        gpus_per_worker: GPUs of each, a part of one where several share it; by default one where there are
            as many.
        address: where a cluster is running; by default one is started on this machine.
    """

    workers: int | None = None
    cpus_per_worker: int = 1
    gpus_per_worker: float | None = None
    address: str | None = None

    def __post_init__(self) -> None:
        """Check what Ray would refuse only when the model is loaded.

        Raises:
            UserError: if it would.
        """
        each = self.gpus_per_worker
        if each is not None and not (0 < each < 1 or (each >= 1 and each % 1 == 0)):
            raise UserError(
                f"--gpus-per-worker: expected a whole number, or a part of one GPU such as 0.5, got {each:g}"
            )

    def shared_out(self, machines: Sequence[tuple[int, int]]) -> tuple[int, dict[str, float]]:
        """Return how many workers there are, and what Ray is to give each.

        One that fits on no machine, or on no GPU where it has a part of one, would be waited for forever.

        Args:
            machines: how many GPUs and CPUs each machine has.

        Raises:
            UserError: if there is no room for them.
        """
        each = self.gpus_per_worker
        by_gpus = [_shares(gpus, each or 1) for gpus, _ in machines]
        by_cpus = [cpus // self.cpus_per_worker for _, cpus in machines]
        workers = self.workers or sum(by_gpus) or (1 if each else sum(by_cpus) or 1)
        of_gpus = each or (1 if sum(by_gpus) >= workers else 0)
        room = sum(map(min, by_gpus, by_cpus) if of_gpus else by_cpus)
        if workers > room:
            gpus, cpus = (sum(numbers) for numbers in zip(*machines, strict=True))
            raise UserError(
                f"expected workers that the {gpus} GPUs and {cpus} CPUs of Ray's machines have room for, got "
                f"{workers} of {of_gpus:g} GPUs and {self.cpus_per_worker} CPUs, of which {room} fit; "
                "give fewer --workers, --gpus-per-worker or --cpus-per-worker"
            )
        return workers, {"num_cpus": self.cpus_per_worker, "num_gpus": of_gpus}


def _shares(gpus: int, each: float) -> int:
    """Return how many workers some GPUs are for, of which each has some, or a part of one."""
    return int(gpus // each) if each >= 1 else gpus * int(1 / each)


class _Remote:
    """What runs in an actor: loads everything once, then measures.

    Files may have changed since the sweep began, hours ago where an actor takes the place of another, and on
    another machine: nothing is measured of others than its own.
    """

    def __init__(
        self,
        experiment: Mapping[str, Any],
        priors: Priors,
        sample: Sequence[Mapping[str, Tensor]],
        subject: Mapping[str, Any],
    ) -> None:
        workbench = open_workbench(Experiment.model_validate(experiment))
        self._worker = Worker(workbench, priors, sample)
        self._differing = ", ".join(differences(subject, subject_of(workbench)))

    def device(self) -> str:
        return self._worker.device

    def find_batch_size(self) -> BatchSize:
        return self._worker.find_batch_size()

    def measure(self, job: Job) -> Measured:
        if self._differing:
            return _failed(
                "expected the worker to find the model and the data that the sweep began with, got others "
                f"(they differ in {self._differing}); run the sweep again, which says what it takes"
            )
        with warnings.catch_warnings(record=True) as caught:  # what a worker prints is shown to nobody
            warnings.simplefilter("always", NvregWarning)
            measured = self._worker.measure(job, lambda: None)
        said = [str(each.message) for each in caught if issubclass(each.category, NvregWarning)]
        kind = UserError if isinstance(measured.exception, UserError) else RuntimeError
        exception = kind(measured.error) if measured.error else None  # the real one may not travel
        return replace(measured, exception=exception, warnings=tuple(said))


class RayExecutor:
    """Workers that load model, data and prior once; one that dies is replaced and its job done again.

    Args:
        experiment: the experiment.
        priors: its priors, by space.
        sample: batches that prior weights are calibrated on.
        subject: what is measured, and on what (`nvreg.sweep.manifest.subject_of`).
        resources: how many workers, with what.

    Raises:
        UserError: if Ray is not installed or does not start, no cluster is at the address, it has no room for
            a worker, or no worker lives to load what it works on.
    """

    def __init__(
        self,
        experiment: Experiment,
        priors: Priors,
        sample: Sequence[Mapping[str, Tensor]],
        subject: Mapping[str, Any],
        resources: Resources,
    ) -> None:
        try:
            import ray
        except ImportError as error:
            raise UserError(
                "expected Ray for --executor ray, which is not installed; pip install 'nvreg[ray]'"
            ) from error
        self._ray = ray
        options: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
        if resources.address is None:
            options |= {"address": "local", "include_dashboard": False}
        else:
            _check_reachable(resources.address)
            options["address"] = resources.address
        try:
            ray.init(**options)
        except Exception as error:  # Ray raises its own, and Exception itself
            raise UserError(
                f"expected Ray to start, or to join its cluster, got: {_reason(error)}; run it again when "
                "less else is running, start Ray yourself and give --ray-address, or leave out --executor"
            ) from error
        has = [each["Resources"] for each in ray.nodes() if each["Alive"]]
        machines = [(int(each.get("GPU", 0)), int(each.get("CPU", 0))) for each in has]
        try:
            self.capacity, share = resources.shared_out(machines)
        except UserError:
            self.close()
            raise
        self._actor_class = ray.remote(**share)(_Remote)
        self._arguments = [
            ray.put(each) for each in (experiment.model_dump(), priors, list(sample), dict(subject))
        ]
        self._idle = deque(self._started() for _ in range(self.capacity))
        self._under_way: dict[Any, tuple[Job, Any]] = {}
        self._deaths: Counter[str] = Counter()
        self._said: set[str] = set()
        self.device = str(self._first_worker_says("device"))

    def find_batch_size(self) -> BatchSize:
        """Try one worker, before its first job; all are taken to have as much memory."""
        return BatchSize.model_validate(self._first_worker_says("find_batch_size"))

    def submit(self, job: Job) -> None:
        """Give the job to a worker that is idle."""
        actor = self._idle.popleft()
        self._under_way[actor.measure.remote(job)] = (job, actor)

    def next(self) -> tuple[Job, Measured]:
        """Wait for the first job to end."""
        while True:
            [future], _ = self._ray.wait(list(self._under_way), num_returns=1)
            job, actor = self._under_way.pop(future)
            try:
                measured = self._ray.get(future)
            except self._ray.exceptions.RayTaskError:
                raise  # of the job itself, not of who works on it
            except self._ray.exceptions.RayError as error:  # killed, for memory or otherwise, or out of reach
                self._idle.append(self._started())
                self._deaths[job.key] += 1
                if self._deaths[job.key] < MAX_DEATHS:
                    self.submit(job)
                    continue
                return job, _failed(
                    f"{MAX_DEATHS} workers died over this setting, as they do for lack of memory: "
                    f"{_reason(error)}"
                )
            self._idle.append(actor)
            self._warn(measured.warnings)
            return job, measured

    def close(self) -> None:
        """Stop the workers, and the cluster where it was started here."""
        self._ray.shutdown()

    def _warn(self, lines: Sequence[str]) -> None:
        """Warn once of what workers, each for itself, have warned of."""
        for line in dict.fromkeys(lines):
            if line not in self._said:
                self._said.add(line)
                warnings.warn(line, NvregWarning, stacklevel=2)

    def _first_worker_says(self, what: str) -> Any:
        """Return what a method of the worker that gets the first job does; all have one kind of device."""
        for _ in range(MAX_DEATHS):
            try:
                return self._ray.get(getattr(self._idle[0], what).remote())
            except self._ray.exceptions.RayTaskError:
                raise
            except self._ray.exceptions.RayError as error:
                reason = _reason(error)
                self._idle[0] = self._started()
        self.close()
        raise UserError(
            f"expected a Ray worker that loads model and data, got {MAX_DEATHS} that died of it: {reason}; "
            "have them be where workers run, with memory for each, or give fewer --workers"
        )

    def _started(self) -> Any:
        return self._actor_class.remote(*self._arguments)


def _check_reachable(address: str) -> None:
    """Check that something listens at an address of host and port, for which Ray would wait for minutes.

    Raises:
        UserError: if nothing does.
    """
    host, _, written = address.removeprefix("ray://").rpartition(":")
    if not host or (port := whole_number(written)) is None:
        return
    try:
        socket.create_connection((host, port), timeout=SECONDS_TO_REACH).close()
    except (OSError, OverflowError, UnicodeError) as error:  # the port, or the host, cannot be one
        raise UserError(
            f"--ray-address: expected a running Ray cluster, got {address} ({error}); "
            "start one with ray start --head, or leave the option out"
        ) from error


def _reason(error: Exception) -> str:
    """Return the line of an error that says what is wrong, the last where it has an actor's traceback."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[-1 if getattr(error, "actor_init_failed", False) else 0]


def _failed(error: str) -> Measured:
    """Return what came of a job whose worker did not live to say it."""
    return Measured(
        metrics={},
        frames={},
        resolved=None,
        prior_weight=None,
        strength=None,
        seconds=0.0,
        error=error,
        exception=UserError(error),
    )
