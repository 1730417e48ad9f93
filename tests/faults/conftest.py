"""A directory with everything that commands need, and what they leave in it where nothing disturbs them."""

import random
import shutil
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tests.faults.running import JOBS, SEED, TRAINING, Job, remove, run

collect_ignore_glob = ["test_*.py"] if sys.platform == "win32" else []  # which forks no process


class Undisturbed:
    """What jobs leave where nothing disturbs them; each runs when it is asked for first.

    Attributes:
        directory: where they ran. Not to be changed.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.run = cache(self._run)
        self.numbers = cache(self._numbers)

    def __getitem__(self, name: str) -> Any:
        """Return the numbers of a job."""
        return self.numbers(name)

    def _run(self, name: str) -> None:
        job = JOBS[name]
        if job.needs:
            self.run(job.maker)
        result = run(*job.arguments, directory=self.directory)
        assert result.code == 0, result

    def _numbers(self, name: str) -> Any:
        self.run(name)
        return JOBS[name].numbers(self.directory / JOBS[name].output)


@pytest.fixture(scope="session")
def expected(tiny_experiment: Path, tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    """The numbers of every job, by its name."""
    directory = tmp_path_factory.mktemp("undisturbed")
    shutil.copytree(tiny_experiment.parent, directory, dirs_exist_ok=True)
    (directory / "tuning.yaml").write_text(TRAINING)
    return Undisturbed(directory)


@pytest.fixture
def place(expected: Undisturbed, tmp_path: Path) -> Callable[[Job], Path]:
    """A function that makes a directory in which a job can run, and has not."""

    def make(job: Job) -> Path:
        if job.needs:
            expected.run(job.maker)
        directory = tmp_path / "place"
        shutil.copytree(expected.directory, directory)
        for other in JOBS.values():
            if other.output != job.needs:
                remove(directory / other.output)
        for made in ("tables", "figures", "report.html"):
            remove(directory / "run" / made)
        return directory

    return make


@pytest.fixture
def draw(request: pytest.FixtureRequest) -> random.Random:
    """What draws for a test; the seed is printed, and pytest shows it where the test fails."""
    print(f"NVREG_FAULTS_SEED={SEED}")
    return random.Random(f"{SEED} {request.node.name}")
