"""What nvreg watch tells of a sweep, from the files of its directory."""

import json
import os
import platform
import re
from io import StringIO

import pytest
from rich.console import Console

from nvreg import UserError
from nvreg.files import HOLDER, exclusive
from nvreg.results import RunFiles
from nvreg.watching import watch_run
from tests.cli.running import run as run_command
from tests.report.conftest import SyntheticRun


@pytest.fixture
def sweep(tmp_path):
    """A sweep of five settings of which four are finished, a minute apart, the last one failed."""
    run = SyntheticRun(tmp_path / "run", planned=5)
    for number, nll in enumerate((1.0, 0.9, 1.1, 0.8)):
        setting = {"settings": {"tau_sigma": {"cross": number / 10}}} if number else {}
        run.add_nll(**dict.fromkeys(run.domains, nll), **setting)
    run.add_nll(**dict.fromkeys(run.domains, 2.0), settings={"tau_sigma": {"cross": 0.9}})
    run.lines[-1] |= {"status": "failed", "error": "RuntimeError: out of [memory]", "metrics": {}}
    directory = run.write()
    for number in range(4):
        os.utime(directory / f"examples/key{number}", (60.0 * number, 60.0 * number))
    return run


def watched(directory, *, terminal=False, pause=lambda _: None) -> str:
    out = StringIO()
    watch_run(directory, Console(file=out, force_terminal=terminal, width=200), pause)
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", out.getvalue())


def held_elsewhere(directory, *, machine="another", process=1):
    """Have a process of another machine write to a run."""
    (directory / HOLDER).write_text(json.dumps({"machine": machine, "process": process}))


def old(directory):
    """Have all files be written long ago."""
    for name in ("trials.jsonl", "manifest.json"):
        os.utime(directory / name, (0, 0))


@pytest.mark.parametrize("terminal", [False, True])
def test_it_tells_how_far_a_sweep_is(sweep, terminal):
    old(sweep.directory)
    said = watched(sweep.directory, terminal=terminal)
    assert "synthetic, translation: 5 of 6 trials, 1 failed, 45 an hour, 0:01:20 left" not in said
    assert "synthetic, translation: 5 of 6 trials, 1 failed, " in said
    assert "no sweep is running; run it again to continue" in said
    assert "▆▁█!" in said or "▅▁█!" in said
    assert "perplexity 2.7" in said
    assert "(tau_sigma cross=0.3)" in said
    assert re.search(r"in-domain:? +3 \(tau_sigma cross=0.3\)", said)
    assert "oracle" not in said
    assert "trial 4 failed: RuntimeError: out of [memory] (nv tau_sigma cross=0.9)" in said


def test_pace_and_time_left_are_of_the_times_between_trials_without_pauses(sweep):
    folder = sweep.directory / "examples"
    os.utime(folder / "key3", (60.0 * 1000, 60.0 * 1000))  # the sweep was continued the next day
    held_elsewhere(sweep.directory)
    said = watched(sweep.directory, pause=lambda _: old(sweep.directory))
    (line, *_) = said.splitlines()
    assert line == "synthetic, translation: 5 of 6 trials, 1 failed, 80 an hour, 0:00:45 left"


def test_a_small_terminal_shows_the_best_and_the_errors_first(sweep):
    old(sweep.directory)
    out = StringIO()
    watch_run(sweep.directory, Console(file=out, force_terminal=True, width=80, height=6))
    *_, last = out.getvalue().split("synthetic, translation")
    assert "best 2.226, perplexity 2.718 as pretrained" in last
    assert last.index("trial 4 failed") < last.index("best 2.226")


def test_a_finished_sweep_ends_the_watch(sweep):
    sweep.planned = 4
    sweep.write()
    assert "5 of 5 trials, 1 failed, the sweep is over" in watched(sweep.directory)


def test_where_no_setting_is_finished_nothing_is_said_to_be_best(sweep):
    trials = RunFiles(sweep.directory).trials
    trials.write_text(trials.read_text().splitlines(keepends=True)[0])
    assert "perplexity 2.718 as pretrained, no setting tried yet" in watched(sweep.directory)


def test_each_trial_that_is_finished_meanwhile_is_a_line(sweep):
    whole = RunFiles(sweep.directory).trials.read_text().splitlines(keepends=True)
    RunFiles(sweep.directory).trials.write_text("")
    held_elsewhere(sweep.directory)

    def pause(_):
        written = RunFiles(sweep.directory).trials.read_text().count("\n")
        RunFiles(sweep.directory).trials.write_text("".join(whole[: written + 2]))
        if written + 2 > len(whole):
            old(sweep.directory)

    lines = watched(sweep.directory, pause=pause).splitlines()
    assert lines[0] == "the pretrained model is being measured"
    assert [line for line in lines if line.startswith("trial ")] == [
        "trial 1: perplexity 2.46 (nv tau_sigma cross=0.1)",
        "trial 2: perplexity 3.004 (nv tau_sigma cross=0.2)",
        "trial 3: perplexity 2.226 (nv tau_sigma cross=0.3)",
        "trial 4: RuntimeError: out of [memory] (nv tau_sigma cross=0.9)",
        "trial 4 failed: RuntimeError: out of [memory] (nv tau_sigma cross=0.9)",
    ]


def test_the_run_is_left_alone(sweep):
    old(sweep.directory)
    before = {path: path.stat().st_mtime_ns for path in sweep.directory.rglob("*")}
    watched(sweep.directory)
    assert {path: path.stat().st_mtime_ns for path in sweep.directory.rglob("*")} == before


def test_a_sweep_of_this_machine_runs_as_long_as_its_process_does(sweep):
    running = []

    def pause(_):
        running.append(True)
        raise KeyboardInterrupt

    watched(sweep.directory, pause=pause)  # it was interrupted a moment ago
    assert not running
    with exclusive(sweep.directory):
        old(sweep.directory)
        watched(sweep.directory, pause=pause)
        assert running
        held_elsewhere(sweep.directory, machine=platform.node(), process=2**22 + 1)  # it was killed
        assert "no sweep is running; run it again to continue" in watched(sweep.directory, pause=pause)
    assert not (sweep.directory / HOLDER).exists()


def test_an_interruption_ends_it_well(sweep):
    def pause(_):
        raise KeyboardInterrupt

    held_elsewhere(sweep.directory)
    assert "5 of 6 trials" in watched(sweep.directory, pause=pause)


def test_a_directory_that_is_no_run_is_one_line(tmp_path):
    with pytest.raises(
        UserError, match=r"expected a directory that nvreg sweep writes, got .* without manifest.json"
    ):
        watch_run(tmp_path)
    refused = run_command("watch", tmp_path / "nowhere")
    assert refused.exit_code == 2
    assert len(refused.stderr.splitlines()) == 1
