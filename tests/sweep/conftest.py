"""A sweep of the tiny experiment: finished, to change, and watched."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from nvreg.experiment import Experiment, load_experiment
from nvreg.parameters import Setting
from nvreg.sweep.runner import run_sweep
from nvreg.sweep.worker import Worker


@pytest.fixture(scope="session")
def finished(tiny_experiment, tmp_path_factory) -> Path:
    """The output of a whole sweep, to look at."""
    output = tmp_path_factory.mktemp("finished") / "output"
    assert run_sweep(load_experiment(tiny_experiment, [f"output={output}"]), quiet=True) == (4, 0, 0)
    return output


@pytest.fixture
def output(finished, tmp_path) -> Path:
    """A copy of a finished sweep's output, to work on."""
    return Path(shutil.copytree(finished, tmp_path / "output"))


@pytest.fixture
def experiment(tiny_experiment, tmp_path) -> Callable[..., Experiment]:
    """The tiny experiment with changes, written to tmp_path/output."""

    def load(*overrides: str) -> Experiment:
        return load_experiment(tiny_experiment, [f"output={tmp_path / 'output'}", *overrides])

    return load


@pytest.fixture
def measured(monkeypatch) -> list[Setting | None]:
    """The settings that are measured from here on."""
    seen = []
    measure = Worker._measured

    def spy(self, job, step):
        seen.append(job.setting)
        return measure(self, job, step)

    monkeypatch.setattr(Worker, "_measured", spy)
    return seen
