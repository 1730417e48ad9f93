"""What a training tells its user after every epoch."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Any

from transformers import TrainerCallback

from nvreg.finetune.history import scores_of
from nvreg.progress import Progress


class Report(TrainerCallback):
    """Shows steps, and says the scores of each epoch."""

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

    def on_evaluate(self, args: Any, state: Any, control: Any, *, metrics: Any, **_: Any) -> None:
        """Say what an epoch scored."""
        scores = ", ".join(f"{name} {value:.4g}" for name, value in scores_of(metrics).items())
        pace = (time.monotonic() - self._started) / (state.global_step - self._first)
        left = timedelta(seconds=round(pace * (state.max_steps - state.global_step)))
        self._progress.say(
            f"seed {self._seed}, epoch {round(state.epoch)} of {round(state.num_train_epochs)}: {scores}; "
            f"{left} left at most"
        )
