"""Which code it is that runs."""

import subprocess

import pytest

from nvreg import environment
from nvreg.environment import COMMIT_FILE, commit, git_commit


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package in a directory of its own, whose commit is asked for."""
    directory = tmp_path / "nvreg"
    directory.mkdir()
    monkeypatch.setattr(environment, "__file__", str(directory / "environment.py"))
    return directory


def test_an_installed_package_has_the_commit_that_it_was_built_from(package):
    assert commit() is None
    (package / COMMIT_FILE).write_text("0123\n")
    assert commit() == "0123"


def test_a_checkout_asks_git(package):
    checkout = package.parent
    identity = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
    for command in (["init", "-q"], [*identity, "commit", "-q", "--allow-empty", "-m", "first"]):
        subprocess.run(["git", "-C", str(checkout), *command], check=True)
    found = commit()
    assert found == git_commit(checkout)
    assert len(found) == 40
