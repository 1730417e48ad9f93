"""Files of a run that are gone, have one bit turned, or are others: the same numbers, or one line."""

import shutil
import time
from pathlib import Path

import pytest

from tests.faults.running import JOBS, Command, run
from tests.tiny import tiny_marian

FILES = {
    "the manifest": "manifest.json",
    "the experiment": "experiment.yaml",
    "the trials": "trials.jsonl",
    "the prior": "prior.safetensors",
    "examples of a validation set": "examples/*/home.validation.parquet",
    "examples of a test set": "examples/*/away.test.parquet",
}
"""What a run is made of, by a pattern of its name."""

FLIPS = 4
"""How many bits of a file are turned, one at a time."""


def flip(path: Path, draw) -> str:
    """Turn one bit of a file, and return which."""
    content = bytearray(path.read_bytes())
    place, bit = draw.randrange(len(content)), draw.randrange(8)
    content[place] ^= 1 << bit
    path.write_bytes(content)
    return f"bit {bit} of byte {place} of {path.name}: {bytes(content[max(0, place - 30) : place + 30])!r}"


def check(name: str, directory: Path, expected, what: str) -> None:
    """Run a job that reads a run, and check that it ends with the same numbers or in one line."""
    job = JOBS[name]
    result = run(*job.arguments, directory=directory)
    if result.code:
        assert result.mistake, what
    else:
        assert job.numbers(directory / job.output) == expected[name], (what, result)


@pytest.mark.faults
@pytest.mark.parametrize("turn", range(FLIPS))
@pytest.mark.parametrize("pattern", FILES.values(), ids=FILES)
def test_a_bit_is_turned(pattern, turn, place, expected, draw):
    directory = place(JOBS["report"])
    path = draw.choice(sorted((directory / "run").glob(pattern)))
    what = flip(path, draw)
    print(what)
    check("report", directory, expected, what)
    check("export", directory, expected, what)
    check("sweep", directory, expected, what)
    if path.exists():
        check("report", directory, expected, what)


@pytest.mark.faults
@pytest.mark.parametrize("pattern", FILES.values(), ids=FILES)
@pytest.mark.parametrize("how", ["gone", "empty", "half"])
def test_a_file_is_gone_or_cut(pattern, how, place, expected, draw):
    directory = place(JOBS["report"])
    path = draw.choice(sorted((directory / "run").glob(pattern)))
    content = path.read_bytes()
    if how == "gone":
        path.unlink()
    else:
        path.write_bytes(content[: len(content) // 2 if how == "half" else 0])
    what = f"{path} is {how}"
    if (path.name, how) != ("trials.jsonl", "half"):  # which looks like a sweep that has not ended
        check("report", directory, expected, what)
        check("export", directory, expected, what)
    result = run(*JOBS["sweep"].arguments, directory=directory)
    if result.code:
        assert result.mistake
    else:
        assert JOBS["sweep"].numbers(directory / "run") == expected["sweep"], what
        check("report", directory, expected, what)


@pytest.mark.faults
@pytest.mark.parametrize("name", ["prior", "fisher", "export", "finetune"])
def test_a_bit_of_what_is_read_again_is_turned(name, place, expected, draw):
    expected.run(name)
    directory, job = place(JOBS["sweep"]), JOBS[name]
    made = expected.directory / job.output
    (shutil.copytree if made.is_dir() else shutil.copy)(made, directory / job.output)
    files = [
        path
        for path in [directory / job.output, *(directory / job.output).rglob("*")]
        if path.is_file() and path.stat().st_size  # a lock is empty
    ]
    for path in draw.sample(files, min(3, len(files))):
        what = flip(path, draw)
        result = run(*job.arguments, directory=directory)
        if result.code:
            assert result.mistake, what


CHANGED = {
    "the text of a test set": lambda directory: _append(directory / "away/test.jsonl"),
    "the text of a validation set": lambda directory: _append(directory / "home/validation.jsonl"),
    "the model": lambda directory: _another_model(directory / "model"),
}


def _append(path: Path) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.write('{"en": "a cat", "de": "ein Kater"}\n')


def _another_model(path: Path) -> None:
    for part in tiny_marian(seed=7):
        part.save_pretrained(path)


@pytest.mark.faults
@pytest.mark.parametrize("what", CHANGED)
def test_an_input_is_another(what, place):
    directory = place(JOBS["sweep"])
    assert (
        run(*JOBS["sweep"].arguments, directory=directory).code == 0
    )  # here, as a run knows where its model is
    CHANGED[what](directory)
    before = (directory / "run/trials.jsonl").read_bytes()
    assert "differs in" in run(*JOBS["sweep"].arguments, directory=directory).mistake
    assert (directory / "run/trials.jsonl").read_bytes() == before
    if what == "the model":
        assert "expected the model that" in run(*JOBS["export"].arguments, directory=directory).mistake


@pytest.mark.faults
def test_a_directory_that_goes_while_a_sweep_writes_is_noticed(place):
    directory = place(JOBS["sweep"])
    sweep = Command(*JOBS["sweep"].arguments, directory=directory)
    while sweep.process.is_alive() and not (directory / "run/trials.jsonl").exists():
        time.sleep(0.005)
    (directory / "run").rename(directory / "gone")  # at once: what is written meanwhile cannot be removed
    result = sweep.wait()
    if (directory / "run").exists() or result.code:  # it may have ended before
        assert result.code != 0, result
        assert "run" in result.mistake
