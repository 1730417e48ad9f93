"""What a sweep keeps when it is killed, interrupted, or a trial of it fails."""

import subprocess
import sys
import time
from dataclasses import replace
from types import SimpleNamespace
from unittest.mock import MagicMock

import pytest

from nvreg.errors import UserError
from nvreg.sweep.executors import RayExecutor, Resources
from nvreg.sweep.runner import run_sweep
from tests.sweep.running import fail_at, trials_in


def test_killed_in_the_middle_and_run_again_nothing_is_lost_or_doubled(
    finished, experiment, tiny_experiment, tmp_path
):
    output = tmp_path / "output"
    log = output / "trials.jsonl"
    command = "from nvreg.cli import main; main()"
    arguments = ["sweep", "--config", tiny_experiment, "--output", output, "--set", "data.max_length=128"]
    with subprocess.Popen([sys.executable, "-c", command, *arguments], stderr=subprocess.DEVNULL) as process:
        while process.poll() is None and not (log.exists() and log.read_bytes().count(b"\n") >= 2):
            time.sleep(0.005)
        process.kill()
    kept = trials_in(output)
    assert 2 <= len(kept) < 4
    log.write_bytes(log.read_bytes() + b'{"key": "torn')

    assert run_sweep(experiment("data.max_length=128"), quiet=True) == (4, 0, 0)
    trials = trials_in(output)
    assert trials[: len(kept)] == kept
    assert [replace(trial, key="", context="") for trial in trials] == [
        replace(trial, key="", context="") for trial in trials_in(finished)
    ]


class RayError(Exception):
    """What Ray raises where an actor is gone."""

    actor_init_failed = True


def ray_that(fails: str) -> SimpleNamespace:
    """A stand-in for Ray that does not start, or whose actors die over loading what they work on."""

    def init(**_):
        if fails == "init":
            raise Exception("The current node timed out during startup. \nMore.")

    def get(_):
        raise RayError("The actor died of an error:\n  File a, line 1\nUserError: expected a model, got none")

    return SimpleNamespace(
        init=init,
        get=get,
        put=lambda each: each,
        shutdown=lambda: None,
        nodes=lambda: [{"Alive": True, "Resources": {"CPU": 1.0}}],
        remote=lambda **_: lambda _: MagicMock(),
        exceptions=SimpleNamespace(RayError=RayError, RayTaskError=type("RayTaskError", (RayError,), {})),
    )


@pytest.mark.parametrize(
    ("fails", "message"),
    [
        (
            "init",
            "expected Ray to start, or to join its cluster, got: The current node timed out .*; run it again",
        ),
        (
            "worker",
            "got 3 that died of it: UserError: expected a model, got none; have them be where workers run",
        ),
    ],
)
def test_what_ray_cannot_do_is_one_line(fails, message, experiment, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", ray_that(fails))
    with pytest.raises(UserError, match=message):
        RayExecutor(experiment(), {}, [], {}, Resources(1))


@pytest.mark.parametrize("address", ["127.0.0.1:99999", "ray://a..b:1", "127.0.0.1:1"])
def test_an_address_that_cannot_be_one_is_one_line(address, experiment, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", ray_that("init"))
    with pytest.raises(UserError, match=f"expected a running Ray cluster, got {address} "):
        RayExecutor(experiment(), {}, [], {}, Resources(1, address=address))


def test_a_failed_trial_is_recorded_and_the_sweep_goes_on(experiment, tmp_path, monkeypatch):
    fail_at(monkeypatch, 3, RuntimeError("out of\nmemory"))
    assert run_sweep(experiment(), quiet=True) == (3, 0, 1)
    failed = trials_in(tmp_path / "output")[2]
    assert (failed.status, failed.number, failed.metrics) == ("failed", 2, {})
    assert failed.error == "RuntimeError: out of memory"


def test_a_failed_trial_is_measured_again_only_when_asked(
    experiment, finished, tmp_path, measured, monkeypatch
):
    with monkeypatch.context() as patch:
        fail_at(patch, 3, RuntimeError("once"))
        run_sweep(experiment(), quiet=True)
    measured.clear()
    assert run_sweep(experiment(), quiet=True) == (3, 0, 1)
    assert measured == []
    assert run_sweep(experiment(), retry_failed=True, quiet=True) == (4, 0, 0)
    assert len(measured) == 1
    assert trials_in(tmp_path / "output")[-1] == trials_in(finished)[2]


def test_a_failed_draw_of_tpe_is_the_one_that_is_measured_again(experiment, tmp_path, monkeypatch):
    asked = experiment("sweep.sampler=tpe", "sweep.trials=3", "sweep.space={tau_sigma: {cross: [0, 1]}}")
    with monkeypatch.context() as patch:
        fail_at(patch, 3, RuntimeError("once"))
        assert run_sweep(asked, quiet=True) == (3, 0, 1)
    failed = trials_in(tmp_path / "output")[2]
    assert run_sweep(asked, retry_failed=True, quiet=True) == (4, 0, 0)
    again = trials_in(tmp_path / "output")[-1]
    assert (again.key, again.number, again.settings) == (failed.key, failed.number, failed.settings)


@pytest.mark.parametrize(("number", "fail_fast"), [(1, False), (3, True)])
def test_the_pretrained_model_s_failure_or_any_with_fail_fast_stops_the_sweep(
    experiment, tmp_path, monkeypatch, number, fail_fast
):
    fail_at(monkeypatch, number, RuntimeError("broken"))
    with pytest.raises(RuntimeError, match="broken"):
        run_sweep(experiment(), fail_fast=fail_fast, quiet=True)
    assert len(trials_in(tmp_path / "output")) == number - 1


def test_an_interrupt_keeps_what_is_done_and_says_how_it_continues(
    experiment, finished, tmp_path, monkeypatch, capsys
):
    with monkeypatch.context() as patch:
        fail_at(patch, 3, KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            run_sweep(experiment())
    assert len(trials_in(tmp_path / "output")) == 2
    assert "2 of 4 trials completed" in (said := capsys.readouterr().err)
    assert said.endswith("; interrupted: run the same command again, and it continues\n")
    run_sweep(experiment())
    assert "interrupted" not in capsys.readouterr().err
    assert trials_in(tmp_path / "output") == trials_in(finished)
