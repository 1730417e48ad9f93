"""Whatever ends a command, and whenever, it goes on to the same numbers, and nothing is lost or doubled."""

import os
import shutil
import signal
import time

import pytest

from tests.faults.running import JOBS, Command, leftovers, remove, run, run_installed

KILLS = 3
"""How often a command is killed before it may end."""

ROUNDS = 4
"""How often each command is tried, at moments drawn anew."""


def kept_lines(directory) -> list[bytes]:
    """The finished trials of a sweep."""
    path = directory / "run/trials.jsonl"
    return path.read_bytes().splitlines(keepends=True) if path.exists() else []


@pytest.fixture(scope="session")
def seconds(expected, tmp_path_factory):
    """How long a command takes where nothing disturbs it: the time in which its kills are drawn."""

    def measure(name: str) -> float:
        if name not in known:
            directory = tmp_path_factory.mktemp("timed") / "place"
            expected.run(name)
            shutil.copytree(expected.directory, directory)
            remove(directory / (JOBS[name].output if name != "report" else "run/tables"))
            started = time.monotonic()
            assert run(*JOBS[name].arguments, directory=directory).code == 0
            known[name] = time.monotonic() - started
        return known[name]

    known: dict[str, float] = {}
    return measure


@pytest.mark.faults
@pytest.mark.parametrize("turn", range(ROUNDS))
@pytest.mark.parametrize("name", JOBS)
def test_killed_at_random_moments_it_goes_on_to_the_same_numbers(name, turn, place, seconds, expected, draw):
    job = JOBS[name]
    directory = place(job)
    for _ in range(KILLS):
        before = kept_lines(directory)
        command = Command(*job.arguments, directory=directory)
        time.sleep(draw.uniform(0, seconds(name)))
        command.send(signal.SIGKILL)
        assert command.wait().code in (0, -signal.SIGKILL)
        after = kept_lines(directory)
        assert after[: len(before)] == before or not before[-1].endswith(b"\n")
        if name == "export" and (directory / job.output).exists():
            break  # it is whole, and not replaced
    else:
        result = run(*job.arguments, directory=directory)
        assert result.code == 0, result
    assert job.numbers(directory / job.output) == expected[name]
    assert len(kept_lines(directory)) == len(set(kept_lines(directory)))
    if name == "sweep":
        assert len(kept_lines(directory)) == len(
            job.numbers(directory / "run")[0]
        )  # nothing is measured twice
    if name != "report":  # which writes beside a sweep, whose next start tidies up
        assert not leftovers(directory)


def test_a_sweep_is_killed_after_a_trial_and_goes_on(place, expected):
    job = JOBS["sweep"]
    directory = place(job)
    command = Command(*job.arguments, directory=directory)
    while command.process.is_alive() and len(kept_lines(directory)) < 2:
        time.sleep(0.005)
    command.send(signal.SIGKILL)
    command.wait()
    (directory / "run" / f".a.{2**22 + 1}.part").touch()  # of a process that there cannot be
    (directory / "run" / f".b.{os.getpid()}.part").touch()
    before = kept_lines(directory)
    assert run(*job.arguments, directory=directory).code == 0
    assert kept_lines(directory)[: len(before)] == before
    assert job.numbers(directory / job.output) == expected["sweep"]
    assert [path.name for path in leftovers(directory)] == [f".b.{os.getpid()}.part"]


@pytest.mark.faults
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("name", ["sweep", "finetune", "fisher"])
def test_a_signal_ends_it_and_it_goes_on(name, number, place, seconds, expected, draw):
    job = JOBS[name]
    directory = place(job)
    command = Command(*job.arguments, directory=directory)
    time.sleep(draw.uniform(0.3, 1) * seconds(name))
    command.send(number)
    result = command.wait()
    assert result.code in ((0, 130) if number == signal.SIGINT else (0, -number)), result
    assert "Traceback" not in result.err
    assert run(*job.arguments, directory=directory).code == 0
    assert job.numbers(directory / job.output) == expected[name]


@pytest.mark.faults
def test_stopped_for_a_while_it_is_the_same(place, expected, draw, seconds):
    job = JOBS["sweep"]
    directory = place(job)
    command = Command(*job.arguments, directory=directory)
    for _ in range(5):
        time.sleep(draw.uniform(0, 0.2) * seconds("sweep"))
        command.send(signal.SIGSTOP)
        time.sleep(draw.uniform(0, 0.3))
        command.send(signal.SIGCONT)
    assert command.wait().code == 0
    assert job.numbers(directory / job.output) == expected["sweep"]


@pytest.mark.faults
@pytest.mark.parametrize("name", JOBS)
def test_the_installed_command_is_what_is_tested(name, place, expected):
    job = JOBS[name]
    directory = place(job)
    result = run_installed(*job.arguments, directory=directory)
    assert result.code == 0, result
    assert job.numbers(directory / job.output) == expected[name]
