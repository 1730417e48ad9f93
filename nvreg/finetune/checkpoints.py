"""The checkpoints of a training: which are kept, and which one it goes on from."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from transformers import TrainerCallback
from transformers.trainer import TRAINER_STATE_NAME

from nvreg.finetune.history import History
from nvreg.finetune.schema import EarlyStopping

_PREFIX = "checkpoint-"


class Checkpoints(TrainerCallback):
    """Keeps the last checkpoint and the best one, and stops a training that scores no better.

    Both look at all scores so far, so that a training that goes on after a kill ends as it would have.

    Args:
        directory: of the checkpoints.
        stopping: by which score, if any.
    """

    def __init__(self, directory: Path, stopping: EarlyStopping | None) -> None:
        self.directory = directory
        self._stopping = stopping

    def at(self, step: int) -> Path:
        """Return the checkpoint after so many steps."""
        return self.directory / f"{_PREFIX}{step}"

    def last(self) -> tuple[Path, History] | None:
        """Return the last checkpoint that is complete, if there is any, and the history up to it."""
        for path in sorted(self.directory.glob(f"{_PREFIX}*"), key=_step, reverse=True):
            try:
                state = json.loads((path / TRAINER_STATE_NAME).read_text(encoding="utf-8"))
            except (OSError, ValueError):
                continue  # the Trainer writes this file last
            return path, History(state["log_history"])
        return None

    def on_evaluate(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Stop if the best score has too many after it."""
        history = History(state.log_history)
        if self._stopping and history.is_exhausted(self._stopping):
            control.should_training_stop = True

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Delete all checkpoints but the one just written and the best."""
        history = History(state.log_history)
        kept = {self.at(state.global_step)}
        if self._stopping and history.validations:
            kept.add(self.at(history.best(self._stopping)["step"]))
        for path in set(self.directory.glob(f"{_PREFIX}*")) - kept:
            shutil.rmtree(path)


def _step(path: Path) -> int:
    return int(path.name.removeprefix(_PREFIX))
