"""`transformers.Trainer` on a task of nvreg: its batches, its scores, and a method's state in checkpoints."""

from __future__ import annotations

import contextlib
import time
from functools import partial
from pathlib import Path
from typing import Any

import torch
from pandas import DataFrame
from safetensors.torch import load_model, save_model
from transformers import PreTrainedModel, Trainer, TrainerCallback, TrainingArguments
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_callback import PrinterCallback, TrainerState
from transformers.utils import SAFE_WEIGHTS_NAME

from nvreg.errors import NotFiniteError, UserError
from nvreg.finetune.bench import Bench
from nvreg.finetune.epochs import INTERVAL, SCORE, History
from nvreg.finetune.regularisers import Regulariser
from nvreg.finetune.schema import TrainingOptions
from nvreg.metrics import METRICS, score, statistics_of
from nvreg.metrics.resampling import FEWEST, interval, resample_counts

STATE = "regulariser.pt"
"""Name of the file in a checkpoint that has the method's state."""

SECONDS = "seconds"
"""Key in an entry of the log: seconds of training and validation so far, interruptions left out."""


class DivergedError(UserError):
    """A training has led to a loss, weights or scores that are not finite."""


class TaskTrainer(Trainer):
    """Trains a model on a task's batches and scores it by the task's metrics after every epoch.

    A checkpoint is what this training goes on from, and not a plain one: its weights have the names of the
    model in memory, those of the method's own modules included.

    Args:
        model: the model, with the method at work on it.
        regulariser: the method.
        bench: what the model is trained on, and how.
        seed: decides the order of examples and dropout.
        checkpoints: directory of the checkpoints.
    """

    model: PreTrainedModel

    def __init__(
        self,
        model: PreTrainedModel,
        regulariser: Regulariser[Any],
        bench: Bench,
        seed: int,
        checkpoints: Path,
    ) -> None:
        train = bench.splits["train"]
        self._use_cache = model.config.use_cache
        super().__init__(
            model=model,
            args=_arguments(bench.finetuning.training, seed, checkpoints, model.device),
            train_dataset=list(bench.taught),
            eval_dataset=list(range(bench.splits["validation"].examples)),
            data_collator=partial(bench.task.batch, train.encoded),
            callbacks=[_Events(regulariser)],
        )
        self.remove_callback(PrinterCallback)
        self._regulariser = regulariser
        self._bench = bench
        self._started = time.monotonic()
        self._is_finite = torch.tensor(True, device=model.device)

    def compute_loss_context_manager(self) -> contextlib.ExitStack:
        """Return the arithmetic that the loss is computed in."""
        stack: contextlib.ExitStack = super().compute_loss_context_manager()
        stack.enter_context(
            torch.autocast(self.model.device.type, torch.bfloat16, enabled=self._bench.precision.bfloat16)
        )
        return stack

    def compute_loss(self, *args: Any, **kwargs: Any) -> Any:
        """Return the loss, and note if it is not finite, of which `evaluate` speaks."""
        computed = super().compute_loss(*args, **kwargs)
        loss = computed[0] if isinstance(computed, tuple) else computed
        self._is_finite &= loss.detach().isfinite()
        return computed

    def check_weights(self) -> None:
        """Check that every loss so far and every weight is finite.

        Raises:
            DivergedError: if one is not.
        """
        weights = (name for name, weight in self.model.named_parameters() if not weight.isfinite().all())
        what = next(weights, None) if self._is_finite else "the loss"
        if what is not None:
            raise DivergedError(
                f"expected a loss and weights that are finite, got {what} that is not by step "
                f"{self.state.global_step}; the training diverged and is not saved; try a smaller "
                "training.learning_rate, or precision: float32"
            )

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        """Score the model on validation, after every epoch and before its checkpoint is written.

        Raises:
            DivergedError: if a loss, a weight or a score is not finite.
        """
        self.check_weights()
        try:
            frame = self._bench.task.score(self.model.eval(), self._bench.splits["validation"].encoded)
        except NotFiniteError as error:
            raise DivergedError(f"validation, {error}") from error
        scores = {SCORE + name: score(frame, name) for name in self._bench.metrics}
        self.log(scores | self._intervals(frame))
        self.callback_handler.on_evaluate(self.args, self.state, self.control, scores)
        return scores

    def _intervals(self, frame: DataFrame) -> dict[str, Any]:
        """Return the 95 % interval of every score, none of fewer than `FEWEST` examples."""
        if len(frame) < FEWEST:
            return {}
        counts = resample_counts(f"{self._bench.finetuning.data.in_domain.name}.validation", len(frame))
        return {
            INTERVAL + name: list(
                interval(METRICS[name].score(statistics_of(frame, METRICS[name].group), counts))
            )
            for name in self._bench.metrics
        }

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Save the weights in training, and the method's state beside them.

        `save_pretrained` would write the weights of a mixture of experts under other names than the Trainer
        reads from its checkpoints, which it then goes on without.
        """
        directory = Path(output_dir or str(self.args.output_dir))
        directory.mkdir(parents=True, exist_ok=True)
        save_model(self.model, str(directory / SAFE_WEIGHTS_NAME))
        torch.save(self._regulariser.state(), directory / STATE)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log numbers with the seconds so far, and as train_loss the mean over all steps.

        The Trainer's own is of the steps since it last went on from a checkpoint.
        """
        if "train_loss" in logs:
            logs = {**logs, "train_loss": History(self.state.log_history).train_loss}
        before = self.state.log_history[-1][SECONDS] if self.state.log_history else 0.0
        now = time.monotonic()
        super().log({**logs, SECONDS: round(before + now - self._started, 3)}, start_time)
        self._started = now

    def summed_up(self, checkpoint: Path) -> History:
        """Return the history of a training that was over at a checkpoint, with the summary at its end.

        The Trainer logs the summary after the last checkpoint, which has none.
        """
        self.state = TrainerState.load_from_json(str(checkpoint / TRAINER_STATE_NAME))
        train_loss = History(self.state.log_history).train_loss
        self.log({"total_flos": self.state.total_flos, "train_loss": train_loss})
        return History(self.state.log_history)

    def resume(self, checkpoint: Path) -> None:
        """Train on from a checkpoint."""
        state = torch.load(checkpoint / STATE, weights_only=True)  # noqa: TID251 - its own, and no code
        self._regulariser.restore(state)
        self.train(resume_from_checkpoint=str(checkpoint))

    def release(self) -> PreTrainedModel:
        """Return the model in evaluation mode, with the config it came with."""
        self.model.config.use_cache = self._use_cache
        return self.model.eval()

    def load_weights(self, checkpoint: Path) -> None:
        """Take the weights of a checkpoint."""
        load_model(self.model, checkpoint / SAFE_WEIGHTS_NAME)


class _Events(TrainerCallback):
    """Tells a method of the events of a training that it acts on."""

    def __init__(self, regulariser: Regulariser[Any]) -> None:
        self._regulariser = regulariser

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._regulariser.before_step(state.global_step, state.max_steps)

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._regulariser.before_update()

    def on_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._regulariser.after_update(kwargs["optimizer"].param_groups[0]["lr"])

    def on_epoch_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if not self._regulariser.validates(state.global_step, state.max_steps):
            control.should_evaluate = False


class _Arguments(TrainingArguments):
    """Arguments of a training on one device; the Trainer would split batches over all GPUs of the machine."""

    @property
    def n_gpu(self) -> int:
        """Number of GPUs that the model is trained on."""
        return min(1, super().n_gpu)


def _arguments(
    training: TrainingOptions, seed: int, checkpoints: Path, device: torch.device
) -> TrainingArguments:
    return _Arguments(
        output_dir=str(checkpoints),
        num_train_epochs=training.epochs,
        per_device_train_batch_size=training.batch_size,
        learning_rate=training.learning_rate,
        weight_decay=training.weight_decay,
        warmup_steps=training.warmup,
        seed=seed,
        eval_strategy="epoch",
        save_strategy="epoch",
        logging_strategy="epoch",
        remove_unused_columns=False,
        use_cpu=device.type == "cpu",
        dataloader_pin_memory=device.type != "cpu",
        disable_tqdm=True,
        report_to="none",
        log_level="error",
    )
