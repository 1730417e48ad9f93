"""The trials of a run on disk: what a kill at any moment leaves is complete."""

from __future__ import annotations

import fcntl
import hashlib
import json
import math
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from nvreg.attention.settings import Settings
from nvreg.errors import UserError
from nvreg.files import write_bytes

Metrics = Mapping[str, Mapping[str, Mapping[str, float]]]
"""Domain, then split, then metric."""


@dataclass(frozen=True)
class Trial:
    """One measured setting: a line of ``trials.jsonl``.

    Attributes:
        key: digest of everything that can change the numbers.
        context: digest of all of it but method and settings; trials of one context compare.
        number: 0 for the pretrained model, then in the order of measuring.
        method: the method of regularisation.
        settings: what `nvreg.Settings.to_dict` returns.
        status: failed trials have an ``error`` and no metrics.
        metrics: value by domain, split and metric.
        prior_weight: mean weight of the prior on the in-domain validation set, teacher-forced.
        strength: mean discarded share on the same (docs/method.md, section 6).
        seconds: wall-clock time of the measurement.
        error: one line.
    """

    key: str
    context: str
    number: int
    method: str
    settings: Mapping[str, Any]
    status: Literal["completed", "failed"]
    metrics: Metrics
    prior_weight: float | None
    strength: float | None
    seconds: float
    error: str | None = None


def digest(value: Any) -> str:
    """Return a digest of JSON-safe data: equal data, equal digests, whatever the order of mappings."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def trial_key(context: str, method: str, settings: Settings) -> str:
    """Return the key of a trial: a digest of everything that can change its numbers."""
    return digest([context, method, settings.to_dict()])


def read_trials(path: Path) -> Iterator[Trial]:
    """Yield the trials of a file in the order of writing, without a last line that is not whole.

    Raises:
        UserError: if another line is not a trial's.
    """
    *lines, _ = path.read_bytes().split(b"\n")
    for number, line in enumerate(lines, start=1):
        try:
            yield Trial(**json.loads(line))
        except (ValueError, TypeError) as error:
            raise UserError(
                f"{path}, line {number}: expected a trial, received {line[:60]!r}; "
                "remove the line and the trial is measured again"
            ) from error


class TrialStore:
    """An append-only file of trials, and the statistics of their examples beside it.

    Only the holder of `exclusive` may create one: opening removes the line that a kill tore.
    """

    def __init__(self, directory: Path) -> None:
        """Open the trials of a run's directory.

        Raises:
            UserError: if a line is not a trial's.
        """
        self._path = directory / "trials.jsonl"
        self._examples = directory / "examples"
        self._path.touch()
        os.truncate(self._path, self._path.read_bytes().rfind(b"\n") + 1)
        self._trials = {trial.key: trial for trial in read_trials(self._path)}

    def trials(self, context: str) -> dict[str, Trial]:
        """Return the latest trial of each key in a context."""
        return {key: trial for key, trial in self._trials.items() if trial.context == context}

    def append(self, trial: Trial) -> None:
        """Add a trial; it is on disk when this returns."""
        line = json.dumps(_finite(asdict(trial)), allow_nan=False) + "\n"
        with self._path.open("ab") as file:
            file.write(line.encode())
            file.flush()
            os.fsync(file.fileno())
        self._trials[trial.key] = trial

    def save_examples(self, key: str, domain: str, split: str, frame: pd.DataFrame) -> None:
        """Write the statistics of a trial's examples, all of them before the trial is appended."""
        path = self._examples / key / f"{domain}.{split}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        content = BytesIO()
        frame.to_parquet(content, index=False)
        write_bytes(path, content.getvalue())


@contextmanager
def exclusive(directory: Path) -> Iterator[None]:
    """Hold a run's directory for one sweep; the lock goes with the process, however it ends.

    Raises:
        UserError: if another sweep holds it.
    """
    with (directory / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise UserError(
                f"expected a directory that no other sweep is writing, received {directory}; "
                "wait for that sweep or choose another with --output"
            ) from error
        yield


def _finite(value: Any) -> Any:
    """Write infinities and NaN as strings, which JSON has no numbers for and `float` reads."""
    match value:
        case dict():
            return {key: _finite(each) for key, each in value.items()}
        case float() if not math.isfinite(value):
            return str(value)
        case _:
            return value
