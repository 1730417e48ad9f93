"""The tiny experiment's directory with a prior in it."""

import shutil
from pathlib import Path

import pytest

from tests.cli.running import estimate_prior


@pytest.fixture(scope="module")
def directory(tiny_experiment, tmp_path_factory) -> Path:
    """A copy of the tiny experiment's directory, to put more into."""
    return Path(shutil.copytree(tiny_experiment.parent, tmp_path_factory.mktemp("cli") / "experiment"))


@pytest.fixture(scope="module")
def prior(directory) -> Path:
    return estimate_prior(directory, "model")
