"""The public names of the package, and that what it is made of has one name each."""

import ast
import re
import subprocess
import sys
import tomllib
from importlib import resources
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

import nvreg

ROOT = Path(__file__).parents[1]
PACKAGE = Path(nvreg.__file__).parent


@pytest.mark.parametrize("name", nvreg.__all__)
def test_every_public_name_exists(name):
    assert getattr(nvreg, name).__name__ == name


def test_dir_lists_the_public_names_without_importing_torch():
    script = (
        "import sys, nvreg\n"
        "assert dir(nvreg) == sorted([*nvreg.__all__, '__version__']), dir(nvreg)\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_a_name_that_does_not_exist_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'conversion'"):
        nvreg.conversion  # noqa: B018


def test_type_checkers_read_the_annotations():
    assert resources.files("nvreg").joinpath("py.typed").is_file()


def test_lower_bounds_are_the_versions_that_make_test_lowest_installs():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    required = map(Requirement, project["dependencies"] + extras["finetune"] + extras["quantise"])
    lowest = {
        each.name.lower(): [Version(bound.version) for bound in each.specifier if bound.operator == ">="]
        for each in required
    }
    lines = (ROOT / "constraints-lowest.txt").read_text().splitlines()
    pins = [Requirement(line) for line in lines if not line.startswith("#")]
    oldest = [pin for pin in pins if pin.marker is None or pin.marker.evaluate({"python_version": "3.11"})]
    assert {pin.name: [Version(each.version) for each in pin.specifier] for pin in oldest} == lowest


def test_no_two_classes_have_one_name():
    defined: dict[str, list[str]] = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef):
                defined.setdefault(node.name, []).append(str(path))
    assert {name: paths for name, paths in defined.items() if len(paths) > 1} == {}


def test_every_docstring_and_comment_names_what_it_describes():
    """None begins with "of": what it is of would have to be guessed."""
    nameless = re.compile(r'"""[Oo]f |^ *#:? [Oo]f |^ {8,}\w+: of ', re.MULTILINE)
    found = {path.name for path in PACKAGE.rglob("*.py") if nameless.search(path.read_text("utf-8"))}
    assert found == set()
