"""What continuous integration runs is what the Makefile has."""

import re
from itertools import product
from pathlib import Path

import pytest

from nvreg.config.loading import read_yaml

ROOT = Path(__file__).parents[1]
RULES = re.findall(r"^([\w -]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
TARGETS = {target for rule in RULES for target in rule.split()}


def commands(workflow):
    """Return every command of a workflow, with every value of the matrix that it is in."""
    for job in workflow["jobs"].values():
        matrix = job.get("strategy", {}).get("matrix", {})
        lines = [line for step in job["steps"] for line in step.get("run", "").splitlines()]
        for line, values in product(lines, product(*matrix.values())):
            for name, value in zip(matrix, values, strict=True):
                line = line.replace(f"${{{{ matrix.{name} }}}}", value)
            yield line


@pytest.mark.parametrize("path", sorted((ROOT / ".github/workflows").iterdir()), ids=lambda path: path.name)
def test_workflows_make_targets_that_there_are(path):
    made = [line.split()[1:] for line in commands(read_yaml(path.read_text())) if line.startswith("make ")]
    assert made
    for words in made:
        assert {word for word in words if "=" not in word} <= TARGETS, words


def test_every_python_is_tested_with_every_set_of_versions():
    workflow = read_yaml((ROOT / ".github/workflows/tests.yml").read_text())
    matrix = workflow["jobs"]["fast"]["strategy"]["matrix"]
    assert matrix == {
        "python": ["3.11", "3.12", "3.13", "3.14"],
        "versions": ["fast", "lowest", "newest"],
    }
