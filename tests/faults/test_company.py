"""Several commands at once on one directory: one writes it, any number read it."""

import os
import time

import pytest

from tests.faults.running import JOBS, Command, run

READY = "run/trials.jsonl"


@pytest.mark.faults
@pytest.mark.parametrize("name", ["sweep", "finetune"])
def test_of_several_at_once_one_writes_and_the_others_say_so(name, place, expected):
    job = JOBS[name]
    directory = place(job)
    commands = [Command(*job.arguments, directory=directory) for _ in range(3)]
    results = [command.wait() for command in commands]
    codes = [result.code for result in results]
    assert 0 in codes
    for result in results:
        if result.code:
            assert "no other run is writing" in result.mistake
    assert job.numbers(directory / job.output) == expected[name]


@pytest.mark.faults
def test_reports_beside_a_sweep_disturb_nothing(place, expected):
    job = JOBS["sweep"]
    directory = place(job)
    sweep = Command(*job.arguments, directory=directory)
    while sweep.process.is_alive() and not (directory / READY).exists():
        time.sleep(0.01)
    while sweep.process.is_alive():
        commands = [Command("report", "run", directory=directory) for _ in range(2)]
        for result in [command.wait() for command in commands]:
            assert result.code == 0 or "run the sweep again" in result.mistake
    assert sweep.wait().code == 0
    assert job.numbers(directory / job.output) == expected["sweep"]
    assert run("report", "run", directory=directory).code == 0
    assert JOBS["report"].numbers(directory / "run") == expected["report"]


@pytest.mark.faults
def test_reports_at_once_are_whole(place, expected):
    directory = place(JOBS["report"])
    commands = [Command("report", "run", directory=directory) for _ in range(4)]
    assert [command.wait().code for command in commands] == [0] * 4
    assert JOBS["report"].numbers(directory / "run") == expected["report"]


@pytest.mark.faults
def test_the_clock_decides_nothing(place, expected):
    directory = place(JOBS["sweep"])
    result = run(*JOBS["sweep"].arguments, directory=directory, prepare=with_a_wild_clock)
    assert result.code == 0, result
    assert JOBS["sweep"].numbers(directory / "run") == expected["sweep"]


@pytest.mark.faults
@pytest.mark.parametrize("name", JOBS)
def test_files_of_the_future_and_a_wild_clock(name, place, expected, draw):
    job = JOBS[name]
    directory = place(job)
    for path in directory.rglob("*"):
        moment = draw.uniform(0, 2**32)
        os.utime(path, (moment, moment))
    result = run(*job.arguments, directory=directory, prepare=with_a_wild_clock)
    assert result.code == 0, result
    assert job.numbers(directory / job.output) == expected[name]


def with_a_wild_clock() -> None:
    """Have the time of day jump back and forth by years, as no clock that only counts does."""
    true, turns = time.time, iter(range(10**9))
    time.time = lambda: true() + (-1) ** next(turns) * 3e8
