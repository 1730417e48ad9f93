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

from nvreg.errors import UserError
from nvreg.files import write_bytes

PRETRAINED = "pretrained"
"""The method of the trial of the pretrained model."""

Metrics = Mapping[str, Mapping[str, Mapping[str, float]]]
"""Domain, then split, then metric."""


@dataclass(frozen=True)
class Trial:
    """One measured setting: a line of ``trials.jsonl``.

    Attributes:
        key: digest of everything that can change the numbers.
        context: digest of all of it but method and settings; trials of one context compare.
        number: 0 for the pretrained model, then in the order of measuring.
        method: the method of regularisation, `PRETRAINED` for the pretrained model.
        seed: of the search that drew the setting; None for the pretrained model. A setting that searches of
            several seeds draw has a line for each, with the same key and number, and is measured once.
        settings: as they were asked for.
        resolved: the NV settings they stood for, with every tau_alpha that was solved for, one a layer; None
            for methods that have none.
        status: failed trials have an ``error`` and no metrics. Stopped ones lost a race: their metrics are
            of the first examples of the validation sets alone, and nothing ever selects them.
        metrics: value by domain, split and metric.
        prior_weight: mean weight of the prior on the in-domain validation set, teacher-forced.
        strength: how strongly the setting regularises, on the same; 0 at identity.
        seconds: wall-clock time of the measurement.
        error: one line.
        change: relative change of attention outputs, the mean over sites, on a sample of the same, where the
            sweep matches weight noise to NV by it; 0 for the pretrained model.
    """

    key: str
    context: str
    number: int
    method: str
    seed: int | None
    settings: Mapping[str, Any]
    resolved: Mapping[str, Any] | None
    status: Literal["completed", "stopped", "failed"]
    metrics: Metrics
    prior_weight: float | None
    strength: float | None
    seconds: float
    error: str | None = None
    change: float | None = None


def digest(value: Any) -> str:
    """Return a digest of JSON-safe data: equal data, equal digests, whatever the order of mappings."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def trial_key(context: str, method: str, settings: Mapping[str, Any]) -> str:
    """Return the key of a trial: a digest of everything that can change its numbers.

    Args:
        context: digest of everything but method and settings.
        method: what identifies the method (`nvreg.methods.Method.fingerprint`).
        settings: what `nvreg.parameters.Setting.to_dict` returns.
    """
    return digest([context, method, settings])


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
                f"{path}, line {number}: expected a trial, got {line[:60]!r}; "
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
        self._trials = {(trial.key, trial.seed): trial for trial in read_trials(self._path)}

    def trials(self, context: str) -> list[Trial]:
        """Return the latest trial of each key and seed in a context."""
        return [trial for trial in self._trials.values() if trial.context == context]

    def append(self, trial: Trial) -> None:
        """Add a trial; it is on disk when this returns."""
        line = json.dumps(_finite(asdict(trial)), allow_nan=False) + "\n"
        with self._path.open("ab") as file:
            file.write(line.encode())
            file.flush()
            os.fsync(file.fileno())
        self._trials[trial.key, trial.seed] = trial

    def save_examples(self, key: str, domain: str, split: str, frame: pd.DataFrame) -> None:
        """Write the statistics of a trial's examples, all of them before the trial is appended."""
        path = self._examples / key / f"{domain}.{split}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        content = BytesIO()
        frame.to_parquet(content, index=False)
        write_bytes(path, content.getvalue())

    def load_examples(self, key: str, domain: str, split: str) -> pd.DataFrame:
        """Read what `save_examples` wrote."""
        return pd.read_parquet(self._examples / key / f"{domain}.{split}.parquet")


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
                f"expected a directory that no other sweep is writing, got {directory}; "
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
