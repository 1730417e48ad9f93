"""Places that cannot be written to: one line names the place and says what to do, and nothing is lost."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.faults.running import JOBS, run

as_root = pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="mounts, as root does")

OUTPUTS = {
    "sweep": lambda place: ("sweep", "--config", "tiny.yaml", "--output", place),
    "finetune": lambda place: ("finetune", "--config", "tuning.yaml", "--output", place),
    "prior": lambda place: ("prior", "model", place, *JOBS["prior"].arguments[3:]),
    "fisher": lambda place: ("fisher", "model", place, *JOBS["fisher"].arguments[3:]),
    "export": lambda place: ("export", "run", place, "--protocol", "in-domain"),
    "report": lambda place: ("report", "run", "run", "--output", place),
}
"""Each command, with a place for what it writes."""


@contextmanager
def mounted(place: Path, *options: str) -> Iterator[None]:
    """Have a file system in memory at a place."""
    place.mkdir(exist_ok=True)
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", ",".join(options), "tmpfs", place], capture_output=True
    )
    if done.returncode:
        pytest.skip(f"cannot mount: {done.stderr.decode()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", place], check=True)


def _file(directory: Path) -> str:
    (directory / "file").touch()
    return "file/below"


def _dangling(directory: Path) -> str:
    (directory / "link").symlink_to("nowhere/at/all")
    return "link/below"


def _circle(directory: Path) -> str:
    (directory / "circle").symlink_to("circle")
    return "circle/below"


PLACES = {
    "under a file": _file,
    "under a link that leads nowhere": _dangling,
    "under a link to itself": _circle,
    "a name of 300 characters": lambda directory: "n" * 300,
    "in /proc": lambda directory: "/proc/nvreg",
    "of a device": lambda directory: "/dev/null/below",
}


@pytest.mark.parametrize("where", PLACES)
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name == "sweep" else pytest.mark.faults) for name in OUTPUTS]
)
def test_a_place_that_is_none(name, where, place):
    directory = place(JOBS[name])
    output = PLACES[where](directory)
    before = sorted(directory.rglob("*"))
    mistake = run(*OUTPUTS[name](output), directory=directory).mistake
    assert output.split("/")[0][:100] in mistake, mistake
    assert ";" in mistake, mistake
    assert [path for path in sorted(directory.rglob("*")) if "run/" not in str(path)] == [
        path for path in before if "run/" not in str(path)
    ]


@pytest.mark.faults
@pytest.mark.parametrize("name", OUTPUTS)
def test_a_name_of_240_characters_is_a_name(name, place, expected):
    directory = place(JOBS[name])
    output = directory / ("n" * 240)
    assert run(*OUTPUTS[name](output), directory=directory).code == 0
    if name != "report":
        assert JOBS[name].numbers(output) == expected[name]


@as_root
@pytest.mark.faults
@pytest.mark.parametrize("name", OUTPUTS)
def test_a_place_that_is_read_only(name, place):
    directory = place(JOBS[name])
    with mounted(directory / "mounted", "ro"):
        mistake = run(*OUTPUTS[name]("mounted/new"), directory=directory).mistake
    assert "mounted, which is read-only" in mistake


@as_root
@pytest.mark.faults
@pytest.mark.parametrize("size", ["8k", "32k", "64k", "128k", "192k"])
@pytest.mark.parametrize("name", OUTPUTS)
def test_a_full_disk_keeps_what_is_finished(name, size, place, expected):
    directory = place(JOBS[name])
    output = Path("mounted/new")
    with mounted(directory / "mounted", f"size={size}"):
        result = run(*OUTPUTS[name](output), directory=directory)
        if result.code:
            assert "space" in result.mistake.lower()
            if name == "sweep" and (directory / output / "trials.jsonl").exists():
                assert " trials completed, " in result.err
            subprocess.run(["mount", "-o", "remount,size=64m", directory / "mounted"], check=True)
            result = run(*OUTPUTS[name](output), directory=directory)
            assert result.code == 0, result
        if name != "report":
            assert JOBS[name].numbers(directory / output) == expected[name]
