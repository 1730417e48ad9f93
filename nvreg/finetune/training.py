"""Training one seed: from the pretrained weights, or the last finished epoch, to a plain checkpoint."""

from __future__ import annotations

import json
from pathlib import Path

from nvreg.files import write_text
from nvreg.finetune.bench import Bench
from nvreg.finetune.checkpoints import Checkpoints
from nvreg.finetune.history import History, scores_of
from nvreg.finetune.progress import Report
from nvreg.finetune.registry import attach
from nvreg.finetune.schema import Training
from nvreg.finetune.trainer import TaskTrainer
from nvreg.progress import Progress

MANIFEST = "training.json"
"""In a finished directory, written last."""

LOG = "training.jsonl"
"""In a finished directory: the numbers of every epoch."""

CHECKPOINTS = "checkpoints"
"""In an unfinished directory: what training goes on from."""


def train_seed(bench: Bench, seed: int, directory: Path, progress: Progress) -> None:
    """Train one seed and save it.

    Args:
        bench: what to train, on what.
        seed: of a new head, of the order of examples, of dropout and of the method.
        directory: of the checkpoint; a training that was interrupted there goes on.
        progress: shown.
    """
    finetuning, training = bench.finetuning, bench.finetuning.training
    model = bench.model(seed)
    regulariser = attach(finetuning.method, model, finetuning.regulariser, seed)
    checkpoints = Checkpoints((directory / CHECKPOINTS).resolve(), training.early_stopping)
    trainer = TaskTrainer(model, regulariser, bench, seed, checkpoints.directory)
    trainer.add_callback(checkpoints)
    trainer.add_callback(Report(progress, seed))
    history, last_weights = _train(trainer, checkpoints, training)
    best = history.best(training.early_stopping)
    if last_weights != best["step"]:
        trainer.load_weights(checkpoints.at(best["step"]))
    applied = regulariser.describe()
    regulariser.detach_()
    trainer.release().save_pretrained(directory)
    bench.tokenizer.save_pretrained(directory)
    write_text(directory / LOG, "".join(json.dumps(entry) + "\n" for entry in history.log))
    manifest = {
        **bench.subject,
        "applied": applied,
        "seed": seed,
        "seconds": history.seconds,
        "epochs": history.log[-1]["epoch"],
        "steps": history.log[-1]["step"],
        "best": {"epoch": best["epoch"], "step": best["step"], **scores_of(best)},
        "precision": bench.precision.description,
        **bench.environment,
    }
    write_text(directory / MANIFEST, json.dumps(manifest, indent=1) + "\n")
    progress.say(f"seed {seed}: best epoch {best['epoch']:g}, {history.seconds:.0f} s, in {directory}")


def _train(trainer: TaskTrainer, checkpoints: Checkpoints, training: Training) -> tuple[History, int | None]:
    """Train what is left, and return the history and the step of the weights that the model has then."""
    found = checkpoints.last()
    if found is None:
        trainer.train()
    else:
        last, history = found
        if history.is_over(training):
            return history, None
        trainer.resume(last)
    return History(trainer.state.log_history), trainer.state.global_step
