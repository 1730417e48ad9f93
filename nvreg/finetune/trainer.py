"""`transformers.Trainer` on a task of nvreg: its batches, its scores, and a method's state in checkpoints."""

from __future__ import annotations

import contextlib
import time
from functools import partial
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel, Trainer, TrainingArguments
from transformers.trainer_callback import PrinterCallback

from nvreg.finetune.bench import Bench
from nvreg.finetune.regularisers.regulariser import Regulariser
from nvreg.finetune.schema import Training
from nvreg.metrics import score

STATE = "regulariser.pt"
"""In a checkpoint: the method's state."""

SECONDS = "seconds"
"""In an entry of the log: of training and validation since the beginning, interruptions left out."""


class TaskTrainer(Trainer):
    """Trains a model on a task's batches and scores it by the task's metrics after every epoch.

    Args:
        model: with the method at work on it.
        regulariser: the method.
        bench: what to train on and how.
        seed: of the order of examples, of dropout and of the method.
        checkpoints: their directory.
    """

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
            train_dataset=list(range(train.examples)),
            eval_dataset=list(range(bench.splits["validation"].examples)),
            data_collator=partial(bench.task.batch, train.encoded),
            callbacks=[regulariser],
        )
        self.remove_callback(PrinterCallback)
        self._regulariser = regulariser
        self._bench = bench
        self._started = time.monotonic()

    def compute_loss_context_manager(self) -> contextlib.ExitStack:
        """Return the arithmetic that the loss is computed in."""
        stack: contextlib.ExitStack = super().compute_loss_context_manager()
        stack.enter_context(
            torch.autocast(self.model.device.type, torch.bfloat16, enabled=self._bench.precision.bfloat16)
        )
        return stack

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        """Score the model on validation."""
        frame = self._bench.task.score(self.model.eval(), self._bench.splits["validation"].encoded)
        scores = {f"eval_{name}": score(frame, name) for name in self._bench.metrics}
        self.log(dict(scores))
        self.callback_handler.on_evaluate(self.args, self.state, self.control, scores)
        return scores

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Save the model in training, and the method's state beside it."""
        super().save_model(output_dir, _internal_call)
        torch.save(self._regulariser.state(), Path(output_dir or self.args.output_dir, STATE))

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log numbers with the seconds so far."""
        before = self.state.log_history[-1][SECONDS] if self.state.log_history else 0.0
        now = time.monotonic()
        super().log({**logs, SECONDS: round(before + now - self._started, 3)}, start_time)
        self._started = now

    def resume(self, checkpoint: Path) -> None:
        """Train on from a checkpoint."""
        self._regulariser.restore(torch.load(checkpoint / STATE, weights_only=True))
        self.train(resume_from_checkpoint=str(checkpoint))

    def release(self) -> PreTrainedModel:
        """Return the model in evaluation mode, with the config it came with."""
        self.model.config.use_cache = self._use_cache
        return self.model.eval()

    def load_weights(self, checkpoint: Path) -> None:
        """Take the weights of a checkpoint."""
        self._load_from_checkpoint(str(checkpoint))


def _arguments(training: Training, seed: int, checkpoints: Path, device: torch.device) -> TrainingArguments:
    arguments = TrainingArguments(
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
    arguments._n_gpu = min(1, arguments.n_gpu)  # else it splits batches over all GPUs of the machine
    return arguments
