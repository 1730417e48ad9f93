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
    ],
)
def test_workers_share_out_what_ray_has(resources, gpus, cpus, workers, of_gpus):
    count, share = resources.shared_out(gpus, cpus)
    assert (count, share) == (workers, {"num_cpus": resources.cpus_per_worker, "num_gpus": of_gpus})


@pytest.mark.parametrize(
    ("resources", "gpus", "message"),
    [
        (Resources(5, gpus_per_worker=2), 8, "expected at most the 8 GPUs that Ray has, got 5 workers of 2"),
        (Resources(gpus_per_worker=16), 8, "expected at most the 8 GPUs that Ray has, got 1 workers of 16"),
        (Resources(gpus_per_worker=1), 0, "expected at most the 0 GPUs that Ray has"),
        (Resources(cpus_per_worker=9), 8, "expected at most the 64 CPUs that Ray has, got 8 workers of 9"),
    ],
)
def test_workers_that_have_no_room_are_refused(resources, gpus, message):
    with pytest.raises(UserError, match=message):
        resources.shared_out(gpus, 64)
