"""How many Ray workers there are, and what each gets."""

import pytest

from nvreg import UserError
from nvreg.sweep.executors import Resources


@pytest.mark.parametrize(
    ("resources", "gpus", "cpus", "workers", "of_gpus"),
    [
        (Resources(), 8, 64, 8, 1),
        (Resources(), 0, 4, 4, 0),
        (Resources(cpus_per_worker=2), 0, 4, 2, 0),
        (Resources(4), 2, 64, 4, 0),
        (Resources(gpus_per_worker=2), 8, 64, 4, 2),
        (Resources(gpus_per_worker=0.5), 8, 64, 16, 0.5),
        (Resources(2, gpus_per_worker=4), 8, 64, 2, 4),
        (Resources(gpus_per_worker=0.6), 8, 64, 8, 0.6),
        (Resources(gpus_per_worker=0.3), 2, 64, 6, 0.3),
    ],
)
def test_workers_share_out_what_ray_has(resources, gpus, cpus, workers, of_gpus):
    count, share = resources.shared_out([(gpus, cpus)])
    assert (count, share) == (workers, {"num_cpus": resources.cpus_per_worker, "num_gpus": of_gpus})


@pytest.mark.parametrize(
    ("resources", "machines", "workers", "of_gpus"),
    [
        (Resources(), [(0, 4), (8, 64)], 8, 1),
        (Resources(gpus_per_worker=2), [(3, 64), (3, 64)], 2, 2),
        (Resources(cpus_per_worker=8), [(0, 12), (0, 12)], 2, 0),
    ],
)
def test_no_worker_needs_two_machines(resources, machines, workers, of_gpus):
    count, share = resources.shared_out(machines)
    assert (count, share["num_gpus"]) == (workers, of_gpus)


@pytest.mark.parametrize(
    ("resources", "machines", "message"),
    [
        (Resources(5, gpus_per_worker=2), [(8, 64)], "the 8 GPUs and 64 CPUs .* got 5 of 2 GPUs .* 4 fit"),
        (Resources(5, gpus_per_worker=0.6), [(3, 64)], "got 5 of 0.6 GPUs and 1 CPUs, of which 3 fit"),
        (Resources(gpus_per_worker=16), [(8, 64)], "the 8 GPUs .* got 1 of 16 GPUs .* 0 fit"),
        (Resources(gpus_per_worker=1), [(0, 64)], "the 0 GPUs .* got 1 of 1 GPUs"),
        (Resources(cpus_per_worker=9), [(8, 64)], "64 CPUs .* got 8 of 1 GPUs and 9 CPUs, of which 7 fit"),
        (Resources(cpus_per_worker=9), [(0, 8)], "8 CPUs .* got 1 of 0 GPUs and 9 CPUs, of which 0 fit"),
        (Resources(cpus_per_worker=2), [(0, 64), (8, 8)], "the 8 GPUs and 72 CPUs .* got 8 .* 4 fit"),
    ],
)
def test_workers_that_have_no_room_are_refused(resources, machines, message):
    with pytest.raises(UserError, match=message):
        resources.shared_out(machines)


@pytest.mark.parametrize("gpus", [1.5, float("nan"), float("inf"), 0.0, -1.0])
def test_gpus_that_ray_refuses_are_a_mistake(gpus):
    with pytest.raises(UserError, match="--gpus-per-worker: expected a whole number, or a part of one GPU"):
        Resources(gpus_per_worker=gpus)
