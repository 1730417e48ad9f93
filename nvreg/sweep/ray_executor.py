"""An executor of many workers, on one machine or on a cluster: Ray actors."""

from __future__ import annotations

import logging
import socket
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from nvreg.errors import UserError
from nvreg.experiment import Experiment
from nvreg.sweep.workbench import open_workbench
from nvreg.sweep.worker import Job, Measured, Worker

if TYPE_CHECKING:
    from torch import Tensor

    from nvreg.prior.artefact import Prior

MAX_DEATHS = 3
"""Of workers over one job, before the job counts as failed."""

SECONDS_TO_REACH = 10


@dataclass(frozen=True)
class Resources:
    """What workers are given.

    Attributes:
        workers: how many; by default one a GPU, or else one for every ``cpus_per_worker`` CPUs.
        cpus_per_worker: CPU cores and threads of each.
        address: of a running cluster; by default one is started on this machine.
    """

    workers: int | None = None
    cpus_per_worker: int = 1
    address: str | None = None


class _Remote:
    """What runs in an actor: loads everything once, then measures."""

    def __init__(
        self, experiment: Mapping[str, Any], prior: Prior, sample: Sequence[Mapping[str, Tensor]]
    ) -> None:
        self._worker = Worker(open_workbench(Experiment.model_validate(experiment)), prior, sample)

    def measure(self, job: Job) -> Measured:
        measured = self._worker.measure(job, lambda: None)
        exception = RuntimeError(measured.error) if measured.error else None  # its own may not travel
        return replace(measured, exception=exception)


class RayExecutor:
    """Workers that load model, data and prior once; one that dies is replaced and its job done again.

    Args:
        experiment: the experiment.
        prior: its prior.
        sample: batches that prior weights are calibrated on.
        resources: how many workers, with what.

    Raises:
        UserError: if Ray is not installed, no cluster is at the address, or it has no room for a worker.
    """

    def __init__(
        self,
        experiment: Experiment,
        prior: Prior,
        sample: Sequence[Mapping[str, Tensor]],
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
            ray.init(address="local", include_dashboard=False, **options)
        else:
            _check_reachable(resources.address)
            ray.init(address=resources.address, **options)
        available = ray.cluster_resources()
        gpus, cpus = int(available.get("GPU", 0)), int(available.get("CPU", 0))
        self.capacity = resources.workers or gpus or cpus // resources.cpus_per_worker
        if not self.capacity or self.capacity * resources.cpus_per_worker > cpus:
            self.close()
            raise UserError(
                f"expected at most the {cpus} CPUs that Ray has, got {self.capacity or 1} workers of "
                f"{resources.cpus_per_worker}; give fewer --workers or --cpus-per-worker"
            )
        share = {"num_cpus": resources.cpus_per_worker, "num_gpus": 1 if gpus >= self.capacity else 0}
        self._actor_class = ray.remote(**share)(_Remote)
        self._arguments = [ray.put(each) for each in (experiment.model_dump(), prior, list(sample))]
        self._idle = deque(self._started() for _ in range(self.capacity))
        self._under_way: dict[Any, tuple[Job, Any]] = {}
        self._deaths: Counter[str] = Counter()

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
            except self._ray.exceptions.RayActorError as error:
                self._idle.append(self._started())
                self._deaths[job.key] += 1
                if self._deaths[job.key] < MAX_DEATHS:
                    self.submit(job)
                    continue
                return job, _died(error)
            self._idle.append(actor)
            return job, measured

    def close(self) -> None:
        """Stop the workers, and the cluster where it was started here."""
        self._ray.shutdown()

    def _started(self) -> Any:
        return self._actor_class.remote(*self._arguments)


def _check_reachable(address: str) -> None:
    """Check that something listens at an address of host and port, for which Ray would wait for minutes.

    Raises:
        UserError: if nothing does.
    """
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not (host and port.isdigit()):
        return
    try:
        socket.create_connection((host, int(port)), timeout=SECONDS_TO_REACH).close()
    except OSError as error:
        raise UserError(
            f"--ray-address: expected a running Ray cluster, got {address} ({error}); "
            "start one with ray start --head, or leave the option out"
        ) from error


def _died(error: Exception) -> Measured:
    reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
    return Measured(
        metrics={},
        frames={},
        resolved=None,
        prior_weight=None,
        strength=None,
        seconds=0.0,
        error=f"{MAX_DEATHS} workers died over this setting: {reason}",
        exception=RuntimeError(reason),
    )
