"""Commands in processes of their own, what they leave behind, and what of that must be the same ever after.

A process is forked from one that has imported everything: hundreds of them would take hours otherwise. It
runs the same entry point as the installed command, which `run_installed` runs.
"""

import hashlib
import json
import multiprocessing
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from nvreg.prior.artefact import Prior
from nvreg.results import RunFiles, read_trials
from tests.conftest import HOME

ROOT = Path(__file__).parents[2]

SEED = int(os.environ.get("NVREG_FAULTS_SEED") or random.SystemRandom().randrange(10**6))
"""What all draws of a run of this suite depend on: drawn anew for every run, and printed with a failure."""

LIMIT = 120.0
"""Seconds after which a command counts as hanging."""

TRAINING = (
    HOME
    + """
name: tuned
task: translation
model: {path: model, device: cpu}
method: mvcr
regulariser: {widths: [4, 8], warm_up: 0.3}
training: {epochs: 2, batch_size: 4, learning_rate: 0.01, seeds: [1, 2], precision: float32}
output: tuned
"""
)

_CONTEXT = multiprocessing.get_context(None if sys.platform == "win32" else "forkserver")
_CONTEXT.set_forkserver_preload(["tests.faults.preloaded"])


@dataclass(frozen=True)
class Result:
    """How a command ended.

    Attributes:
        code: its exit code, below 0 the number of the signal that ended it.
        out: what it wrote to standard output.
        err: what it wrote to standard error.
    """

    code: int
    out: str
    err: str

    @property
    def mistake(self) -> str:
        """The one line of a mistake, which is asserted to be one, without a traceback and with code 2."""
        assert self.code == 2, self
        lines = [line for line in self.err.splitlines() if line.startswith("nvreg: ")]
        assert len(lines) == 1, self
        assert "Traceback" not in self.err, self
        return lines[0].removeprefix("nvreg: ")


class Command:
    """A command that runs in a process of its own.

    Args:
        arguments: those of ``nvreg``.
        directory: where it runs.
        prepare: a function of a module that the process calls first.
    """

    def __init__(
        self, *arguments: object, directory: Path, prepare: Callable[[], None] | None = None
    ) -> None:
        self._out, self._err = (directory / f".{time.monotonic_ns()}.{name}" for name in ("out", "err"))
        self.process = _CONTEXT.Process(
            target=_run, args=(list(map(str, arguments)), directory, self._out, self._err, prepare)
        )
        self.started = time.monotonic()
        self.process.start()

    def send(self, number: int) -> None:
        """Send a signal, if the process is still there."""
        if self.process.is_alive():
            os.kill(self.process.pid, number)

    def wait(self, limit: float = LIMIT) -> Result:
        """Return how the command ends.

        Raises:
            AssertionError: if it does not, within so many seconds.
        """
        self.process.join(limit)
        if self.process.exitcode is None:
            self.process.kill()
            self.process.join()
            raise AssertionError(f"hangs: {self._err.read_text()}")
        texts = [path.read_text(errors="replace") if path.exists() else "" for path in (self._out, self._err)]
        for path in (self._out, self._err):
            path.unlink(missing_ok=True)
        return Result(self.process.exitcode, *texts)


def run(
    *arguments: object, directory: Path, prepare: Callable[[], None] | None = None, limit: float = LIMIT
) -> Result:
    """Return how a command ends."""
    return Command(*arguments, directory=directory, prepare=prepare).wait(limit)


def run_installed(*arguments: object, directory: Path) -> Result:
    """Return how the command beside the interpreter ends, with the sources that these tests are of."""
    command = Path(sys.executable).with_name("nvreg")
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [command, *map(str, arguments)],
        cwd=directory,
        env=environment,
        capture_output=True,
        text=True,
        timeout=LIMIT,
    )
    return Result(done.returncode, done.stdout, done.stderr)


def _run(
    arguments: list[str], directory: Path, out: Path, err: Path, prepare: Callable[[], None] | None
) -> None:
    for path, number in ((Path(os.devnull), 0), (out, 1), (err, 2)):
        opened = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        os.dup2(opened, number)
        os.close(opened)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # whoever forks may ignore it
    os.chdir(directory)
    if prepare is not None:
        prepare()
    sys.argv = ["nvreg", *arguments]
    from nvreg.cli import main

    main()


@dataclass(frozen=True)
class Job:
    """A command with an output, in a directory that holds what it needs.

    Attributes:
        arguments: those of ``nvreg``.
        output: what it writes, below the directory.
        needs: what it reads of another job's output.
        numbers: returns what of its output must be the same whatever happened on the way.
    """

    arguments: tuple[str, ...]
    output: str
    numbers: Callable[[Path], Any]
    needs: str | None = None

    @property
    def maker(self) -> str:
        """The name of the job that makes what this one needs."""
        return next(name for name, job in JOBS.items() if job.output == self.needs)


def numbers_of_sweep(output: Path) -> Any:
    """The latest line of every trial but for its time, and what it kept of every example."""
    lines = {trial.key: replace(trial, seconds=0.0) for trial in read_trials(output / "trials.jsonl")}
    trials = sorted(lines.values(), key=lambda trial: trial.number)
    kept = {
        (trial.number, domain, split): pd.read_parquet(
            RunFiles(output).examples(trial.key, domain, split)
        ).to_json()
        for trial in trials
        for domain, splits in trial.metrics.items()
        for split in splits
    }
    return trials, kept, Prior.load(output / "prior.safetensors").fingerprint


def numbers_of_training(output: Path) -> Any:
    """The weights of every seed, and the numbers of its epochs."""
    return {
        path.parent.name: (
            digest(path.parent / "model.safetensors"),
            [
                {key: value for key, value in json.loads(line).items() if not _TIME.search(key)}
                for line in path.read_text().splitlines()
            ],
        )
        for path in sorted(output.glob("*/training.jsonl"))
    }


def numbers_of_export(output: Path) -> Any:
    """The weights, and the setting."""
    return (
        digest(output / "model.safetensors"),
        (output / "nvreg.json").read_text(),
        sorted(os.listdir(output)),
    )


def numbers_of_report(run: Path) -> Any:
    """All tables."""
    return {path.name: path.read_text() for path in sorted((run / "tables").iterdir())}


_TIME = re.compile("seconds?$|runtime$")
"""Numbers that no two runs share."""


def digest(path: Path) -> str:
    """Return a digest of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


_TEXT = ("--data", "home/train.jsonl", "--column", "en", "--target-column", "de")

JOBS: Mapping[str, Job] = {
    "sweep": Job(("sweep", "--config", "tiny.yaml", "--output", "run"), "run", numbers_of_sweep),
    "finetune": Job(("finetune", "--config", "tuning.yaml"), "tuned", numbers_of_training),
    "prior": Job(
        ("prior", "model", "a.safetensors", *_TEXT),
        "a.safetensors",
        lambda path: Prior.load(path).fingerprint,
    ),
    "fisher": Job(
        ("fisher", "model", "fisher.json", *_TEXT), "fisher.json", lambda path: json.loads(path.read_text())
    ),
    "export": Job(("export", "run", "out", "--protocol", "in-domain"), "out", numbers_of_export, "run"),
    "report": Job(("report", "run"), "run", numbers_of_report, "run"),
}
"""Everything that writes, by its command."""


def remove(path: Path) -> None:
    """Remove a file or directory, if it is there."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def leftovers(directory: Path) -> list[Path]:
    """Return the files that were written aside and not renamed."""
    return [path for path in directory.rglob("*.part") if re.fullmatch(r"\..*\.\d+\.part", path.name)]
