"""The trials of a run's directory, which a kill at any moment leaves whole."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, replace
from io import BytesIO
from pathlib import Path

import pandas as pd

from nvreg.errors import DamagedError
from nvreg.files import check_regular, naming, write_bytes
from nvreg.results import (
    RunFiles,
    Trial,
    digest,
    digest_of_examples,
    finite,
    is_whole_line,
    latest_trials,
    read_examples,
    read_trials,
)


class TrialStore:
    """An append-only file of trials, and the statistics of their examples beside it.

    Only the holder of `nvreg.files.exclusive` may create one: opening removes the line that a kill tore.
    """

    def __init__(self, directory: Path) -> None:
        """Open the trials of a run's directory.

        Raises:
            UserError: if a line is not a trial's.
        """
        self._files = files = RunFiles(directory)
        check_regular(files.trials)
        files.trials.touch()
        content = files.trials.read_bytes()
        whole = content.rfind(b"\n") + 1
        if is_whole_line(content[whole:]):
            with files.trials.open("ab") as file:
                file.write(b"\n")
        else:
            os.truncate(files.trials, whole)
        self._trials = list(read_trials(files.trials))
        self._bytes = files.trials.stat().st_size
        self._beside = [path for path in (files.manifest, files.experiment) if path.exists()]

    def __len__(self) -> int:
        """Return the number of lines, of all contexts."""
        return len(self._trials)

    def trials(self, context: str, methods: Mapping[str, str] | None = None) -> list[Trial]:
        """Return the latest trial of each key and seed in a context (see `latest_trials`)."""
        return latest_trials(self._trials, context, methods)

    def lost(self, trials: Iterable[Trial]) -> list[Trial]:
        """Return those of some trials of which a file of examples is gone, or not as it was written.

        Trials that differ in their seed alone share their files, which are read once.
        """
        is_lost: dict[bytes, bool] = {}
        found = []
        for trial in trials:
            kept = _line(replace(trial, seed=None))
            if kept not in is_lost:
                is_lost[kept] = not self._is_intact(trial)
            if is_lost[kept]:
                found.append(trial)
        return found

    def _is_intact(self, trial: Trial) -> bool:
        try:
            for domain, splits in trial.metrics.items() if trial.status == "completed" else ():
                for split in splits:
                    read_examples(self._files, trial, domain, split)
        except DamagedError:
            return False
        return True

    def check(self) -> None:
        """Check that the directory still holds what was there when the store was opened, and all since then.

        Raises:
            DamagedError: if someone has removed or changed it.
        """
        for path in self._beside:
            if not path.exists():
                raise DamagedError(f"{path} is gone")
        try:
            size = self._files.trials.stat().st_size
        except OSError:
            raise DamagedError(f"{self._files.trials} is gone") from None
        if size != self._bytes:
            raise DamagedError(f"{self._files.trials} was changed by someone else")

    def restore(self) -> None:
        """Write again the trials, of which all are in memory, where their file is gone.

        Raises:
            DamagedError: if the file is there and was changed by someone else.
        """
        if self._files.trials.exists() and self._files.trials.stat().st_size != self._bytes:
            raise DamagedError(f"{self._files.trials} was changed by someone else")
        lines = b"".join(map(_line, self._trials))
        write_bytes(self._files.trials, lines)
        self._bytes = len(lines)

    def append(self, trial: Trial) -> None:
        """Add a trial; it is on disk when this returns.

        Raises:
            DamagedError: as `check`; nothing is written then.
        """
        self.check()
        with naming(path := self._files.trials), path.open("ab") as file:
            file.write(line := _line(trial))
            file.flush()
            os.fsync(file.fileno())
        self._bytes += len(line)
        self._trials.append(trial)

    def save_examples(self, key: str, domain: str, split: str, frame: pd.DataFrame) -> str:
        """Write the statistics of a trial's examples, all of them before the trial is appended.

        Returns:
            The digest of the file, which the trial keeps.
        """
        path = self._files.examples(key, domain, split)
        path.parent.mkdir(parents=True, exist_ok=True)
        content = BytesIO()
        frame.to_parquet(content, index=False)
        write_bytes(path, content.getvalue())
        return digest_of_examples(content.getvalue())

    def load_examples(self, trial: Trial, domain: str, split: str) -> pd.DataFrame:
        """Read what `save_examples` wrote.

        Raises:
            DamagedError: if it is gone or not as it was written.
        """
        return pd.read_parquet(BytesIO(read_examples(self._files, trial, domain, split)))


def _line(trial: Trial) -> bytes:
    written = finite(asdict(trial))
    return (json.dumps(written | {"digest": digest(written)}, allow_nan=False) + "\n").encode()
