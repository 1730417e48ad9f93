import os
import signal
import threading
import time
from pathlib import Path

import pytest

from nvreg import UserError
from nvreg.experiment import load_experiment
from nvreg.results import read_manifest, read_trials
from nvreg.sweep.executors import RayExecutor, Resources
from nvreg.sweep.runner import run_sweep

pytestmark = pytest.mark.ray
pytest.importorskip("ray", reason="needs Ray: pip install 'nvreg[ray]'")

TWO = Resources(workers=2)


def scores(output: Path) -> dict[str, tuple]:
    return {
        trial.key: (trial.status, trial.metrics, trial.prior_weight, trial.strength)
        for trial in read_trials(output / "trials.jsonl")
    }


def flat(trial: tuple) -> list[float]:
    _, metrics, prior_weight, strength = trial
    values = [value for splits in metrics.values() for by in splits.values() for value in by.values()]
    return [*values, prior_weight, strength]


@pytest.fixture
def experiment(tiny_experiment, tmp_path):
    overrides = ["sweep.trials=6", "sweep.enqueue=[{prior_weight: 0.1}]"]
    return lambda name: load_experiment(tiny_experiment, [*overrides, f"output={tmp_path / name}"])


def test_the_results_are_those_of_one_process_also_when_a_worker_is_killed(experiment, tmp_path, monkeypatch):
    assert run_sweep(experiment("local"), quiet=True) == (7, 0, 0)
    killed = []
    submit = RayExecutor.submit

    def submit_and_kill(self, job):
        actor = self._idle[0]
        submit(self, job)
        if job.number == 3 and not killed:
            pid = self._ray.get(actor.__ray_call__.remote(lambda _: os.getpid()))
            killed.append(pid)
            threading.Timer(0.05, os.kill, (pid, signal.SIGKILL)).start()
            submit_again = time.monotonic() + 0.2
            while time.monotonic() < submit_again:
                time.sleep(0.01)

    monkeypatch.setattr(RayExecutor, "submit", submit_and_kill)
    assert run_sweep(experiment("ray"), resources=TWO, quiet=True) == (7, 0, 0)
    assert killed
    local, ray = scores(tmp_path / "local"), scores(tmp_path / "ray")
    assert local.keys() == ray.keys()
    sizes = [read_manifest(tmp_path / name / "manifest.json")["batch_tokens"] for name in ("local", "ray")]
    assert sizes[0] == sizes[1] == {"tokens": 2048, "found": "too little is scored for another size to pay"}
    for key, trial in local.items():
        assert flat(ray[key]) == pytest.approx(flat(trial), rel=1e-6)


def test_a_cluster_that_is_not_there_or_too_small_is_a_clear_error(experiment):
    with pytest.raises(UserError, match=r"expected a running Ray cluster, got 127\.0\.0\.1:1"):
        run_sweep(experiment("nowhere"), resources=Resources(1, address="127.0.0.1:1"), quiet=True)
    with pytest.raises(UserError, match=r"expected workers that the .* CPUs of Ray's machines have room for"):
        run_sweep(experiment("small"), resources=Resources(1, cpus_per_worker=10_000), quiet=True)
