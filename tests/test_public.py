"""The public names of the package."""

import subprocess
import sys
from importlib import resources

import pytest

import nvreg


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
