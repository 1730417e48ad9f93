"""Models and machines that cannot do it: numbers that are none, too little memory, workers that die."""

import json
import os
import signal

import pytest
import torch
from safetensors.torch import load_file, save_file

from nvreg.results import read_trials
from nvreg.sweep.worker import Worker
from tests.faults.running import JOBS, LIMIT, ROOT, run

READING = ["sweep", "finetune", "prior", "fisher"]
"""The jobs that run a model."""


def spoil(directory, number: float) -> None:
    """Put a number into one row of a model's weights."""
    path = directory / "model/model.safetensors"
    weights = load_file(path)
    name = next(name for name in weights if "encoder.layers.0.fc1.weight" in name)
    weights[name][0] = number
    save_file(weights, path, metadata={"format": "pt"})


@pytest.mark.faults
@pytest.mark.parametrize("number", [float("nan"), float("inf")])
@pytest.mark.parametrize("name", READING)
def test_weights_that_are_no_numbers(name, number, place):
    directory = place(JOBS[name])
    spoil(directory, number)
    result = run(*JOBS[name].arguments, directory=directory)
    assert result.mistake
    output = directory / JOBS[name].output
    assert not output.is_file()
    assert not list(output.glob("*/model.safetensors"))
    if name == "sweep" and (output / "trials.jsonl").exists():
        assert not [trial for trial in read_trials(output / "trials.jsonl") if trial.status == "completed"]


@pytest.mark.faults
def test_a_training_that_diverges_is_not_saved(place):
    directory = place(JOBS["finetune"])
    rate = ("--set", "training.learning_rate=1.0e30", "--set", "method=plain", "--set", "regulariser={}")
    result = run(*JOBS["finetune"].arguments, *rate, directory=directory)
    assert result.code in (1, 2), result
    assert not list((directory / "tuned").glob("*/model.safetensors"))


def test_a_trial_that_gets_no_memory_fails_alone(place):
    directory = place(JOBS["sweep"])
    result = run(*JOBS["sweep"].arguments, directory=directory, prepare=without_memory_for_the_second)
    assert result.code == 1, result
    trials = list(read_trials(directory / "run/trials.jsonl"))
    assert [trial.status for trial in trials] == ["completed", "completed", "failed", "completed"]
    assert "allocate memory" in trials[2].error or trials[2].error == "MemoryError"
    assert "3 of 4 trials completed, 1 failed" in result.err


@pytest.mark.faults
def test_a_model_that_gets_no_memory_is_one_line(place):
    directory = place(JOBS["sweep"])
    result = run(*JOBS["sweep"].arguments, directory=directory, prepare=without_memory_for_the_first)
    assert "expected memory" in result.mistake


@pytest.mark.faults
def test_a_trial_that_the_system_kills_for_memory_fails_when_the_sweep_goes_on(place, expected):
    job = JOBS["sweep"]
    directory = place(job)
    assert run(*job.arguments, directory=directory, prepare=killed_at_the_second).code == -signal.SIGKILL
    note = directory / "run/.under-way.json"
    written = json.loads(note.read_text())
    note.write_text(json.dumps(written | {"kills": -1}))  # as if the system had counted one since
    result = run(*job.arguments, directory=directory)
    assert result.code == 1, result
    trials = list(read_trials(directory / "run/trials.jsonl"))
    assert [trial.status for trial in trials] == ["completed", "completed", "failed", "completed"]
    assert trials[2].error.startswith("the system killed the process that measured it for lack of memory")
    assert not note.exists()
    assert run(*job.arguments, "--retry-failed", directory=directory).code == 0
    trials, kept, prior = job.numbers(directory / "run")
    same, kept_before, prior_before = expected["sweep"]
    assert (trials, kept, prior) == (same, kept_before, prior_before)


@pytest.mark.faults
def test_a_kill_that_is_not_for_memory_fails_nothing(place, expected):
    job = JOBS["sweep"]
    directory = place(job)
    for _ in range(2):
        assert run(*job.arguments, directory=directory, prepare=killed_at_the_second).code == -signal.SIGKILL
    assert run(*job.arguments, directory=directory).code == 0
    assert job.numbers(directory / "run") == expected["sweep"]


@pytest.mark.faults
@pytest.mark.ray
def test_a_ray_worker_that_dies_over_a_setting_fails_it_alone(place, expected):
    pytest.importorskip("ray", reason="needs Ray: pip install 'nvreg[ray]'")
    job = JOBS["sweep"]
    directory = place(job)
    (directory / "sitecustomize.py").write_text(ONLY_IN_WORKERS)
    to_ray = ("--executor", "ray", "--workers", "1")
    result = run(*job.arguments, *to_ray, directory=directory, prepare=with_the_site, limit=5 * LIMIT)
    assert result.code == 1, result
    trials = list(read_trials(directory / "run/trials.jsonl"))
    assert [trial.status for trial in trials] == ["completed", "completed", "failed", "completed"]
    assert "3 workers died over this setting" in trials[2].error


def _at(number: int, happens) -> None:
    """Have something happen in place of measuring the setting of a number."""
    measure = Worker._measured

    def measured(self, job, step):
        if job.number == number:
            happens()
        return measure(self, job, step)

    Worker._measured = measured


def without_memory_for_the_second() -> None:
    """Have the second setting ask for more memory than there is."""
    _at(2, lambda: torch.empty(1 << 50))


def without_memory_for_the_first() -> None:
    """Have the pretrained model ask for more memory than there is."""
    _at(0, lambda: torch.empty(1 << 50))


def killed_at_the_second() -> None:
    """Have the process be killed when it measures the second setting."""
    _at(2, lambda: os.kill(os.getpid(), signal.SIGKILL))


ONLY_IN_WORKERS = """
import sys

if any("default_worker" in word for word in sys.orig_argv):  # Ray waits half a minute for its other processes
    from tests.faults.test_models import killed_at_the_second

    killed_at_the_second()
"""
"""The site's customisation: PyTorch is imported by it, which takes long where much else is running."""


def with_the_site() -> None:
    """Have processes that are started from here on run the site's customisation in the working directory."""
    os.environ["PYTHONPATH"] = os.pathsep.join([os.getcwd(), str(ROOT)])
