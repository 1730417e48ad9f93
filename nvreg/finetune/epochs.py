"""The epochs of a training: their scores, the checkpoints that are kept, and what the user is told."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from math import isnan
from pathlib import Path
from typing import Any

from transformers import TrainerCallback
from transformers.trainer import TRAINER_STATE_NAME

from nvreg.files import changed_files, write_digests
from nvreg.finetune.schema import EarlyStopping, TrainingOptions
from nvreg.metrics import METRICS
from nvreg.progress import Progress

SCORE = "eval_"
"""Prefix of a score's name in the log of `transformers.Trainer`."""

INTERVAL = "interval_"
"""Prefix of the name of a score's interval, [low, high], in the same log."""

_CHECKPOINT = "checkpoint-"


class History:
    """The log of `transformers.Trainer`.

    Attributes:
        log: its entries in order, each with its step, epoch and the seconds so far.
        validations: those entries that have scores.
    """

    def __init__(self, log: Sequence[dict[str, Any]]) -> None:
        self.log = log
        self.validations = [entry for entry in log if scores_of(entry)]

    @property
    def seconds(self) -> float:
        """Seconds of training and validation."""
        return float(self.log[-1]["seconds"])

    @property
    def train_loss(self) -> float:
        """The mean loss over all steps, those before an interruption included."""
        total, before = 0.0, 0
        for entry in self.log:
            if "loss" in entry:
                total += entry["loss"] * (entry["step"] - before)
                before = entry["step"]
        return total / before

    def best(self, stopping: EarlyStopping | None) -> dict[str, Any]:
        """Return the entry of the first best validation, or of the last where no score decides.

        A score that is no number is the worst.
        """
        if stopping is None:
            return self.validations[-1]
        sign = 1 if METRICS[stopping.metric].higher_is_better else -1

        def goodness(entry: dict[str, Any]) -> tuple[bool, float]:
            score = entry[SCORE + stopping.metric]
            return not isnan(score), sign * score

        return max(self.validations, key=goodness)

    def is_exhausted(self, stopping: EarlyStopping) -> bool:
        """Whether the best validation has too many after it."""
        since = len(self.validations) - 1 - self.validations.index(self.best(stopping))
        return since >= stopping.patience

    def is_over(self, training: TrainingOptions) -> bool:
        """Whether nothing is left to train."""
        stopping = training.early_stopping
        stopped = bool(stopping and self.validations and self.is_exhausted(stopping))
        return stopped or self.log[-1]["epoch"] >= training.epochs


def scores_of(entry: dict[str, Any]) -> dict[str, float]:
    """Return the scores of a validation's entry by the names of the metrics."""
    return {key.removeprefix(SCORE): value for key, value in entry.items() if key.startswith(SCORE)}


class Checkpoints(TrainerCallback):
    """Keeps the last checkpoint and the best one, and stops a training that scores no better.

    Both look at all scores so far, so that a training that goes on after a kill ends as it would have.

    Args:
        directory: where the checkpoints are.
        stopping: the score that decides, if any.
        say: is told in a line which checkpoint is damaged, and not gone on from.
    """

    def __init__(
        self, directory: Path, stopping: EarlyStopping | None, say: Callable[[str], None] = lambda line: None
    ) -> None:
        self.directory = directory
        self._stopping = stopping
        self._say = say

    def at(self, step: int) -> Path:
        """Return the checkpoint after so many steps."""
        return self.directory / f"{_CHECKPOINT}{step}"

    def last(self) -> tuple[Path, History] | None:
        """Return the last checkpoint that is complete, if there is any, and the history up to it.

        The best one of that history, which the training may end with, is complete too.
        """
        for path in sorted(self._all(), key=_step, reverse=True):
            damaged = [path] if changed_files(path) else []
            if not damaged:
                try:
                    state = json.loads((path / TRAINER_STATE_NAME).read_text(encoding="utf-8"))
                    history = History(state["log_history"])
                    others = self._needed(path, history) - {path}
                except (OSError, ValueError, RecursionError, LookupError, TypeError, AttributeError):
                    continue  # the Trainer writes this file last
                damaged = [each for each in others if not each.is_dir() or changed_files(each)]
            if not damaged:
                return path, history
            self._say(f"{damaged[0]} is not as it was written; training goes on from before it")
        return None

    def on_evaluate(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Stop if the best score has too many after it."""
        history = History(state.log_history)
        if self._stopping and history.is_exhausted(self._stopping):
            control.should_training_stop = True

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Delete all checkpoints but the one just written, which gets its digests, and the best."""
        write_digests(path := self.at(state.global_step))
        for other in self._all() - self._needed(path, History(state.log_history)):
            shutil.rmtree(other)

    def _all(self) -> set[Path]:
        paths = self.directory.glob(f"{_CHECKPOINT}*")
        return {path for path in paths if path.name.removeprefix(_CHECKPOINT).isdecimal()}

    def _needed(self, path: Path, history: History) -> set[Path]:
        """Return a checkpoint and the best one of the history up to it, which the training may end with."""
        if self._stopping is None or not history.validations:
            return {path}
        return {path, self.at(history.best(self._stopping)["step"])}


def _step(path: Path) -> int:
    return int(path.name.removeprefix(_CHECKPOINT))


class Announcer(TrainerCallback):
    """Shows the steps of a training, and says the scores of each epoch.

    Args:
        progress: where they are shown.
        seed: seed of the training, which every line names.
    """

    def __init__(self, progress: Progress, seed: int) -> None:
        self._progress = progress
        self._seed = seed
        self._first = 0
        self._started = 0.0

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Show what is left."""
        self._first, self._started = state.global_step, time.monotonic()
        again = f" from step {state.global_step}" if state.global_step else ""
        self._progress.phase(f"seed {self._seed}: training{again}", state.max_steps - state.global_step)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Count a step."""
        self._progress.step()

    def on_evaluate(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Say what an epoch scored."""
        scores = ", ".join(f"{name} {value:.4g}" for name, value in scores_of(kwargs["metrics"]).items())
        pace = (time.monotonic() - self._started) / (state.global_step - self._first)
        left = timedelta(seconds=round(pace * (state.max_steps - state.global_step)))
        self._progress.say(
            f"seed {self._seed}, epoch {round(state.epoch)} of {round(state.num_train_epochs)}: {scores}; "
            f"{left} left at most"
        )
