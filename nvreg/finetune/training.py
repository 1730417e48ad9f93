"""Fine-tuning a model, once a seed: each leaves a plain checkpoint with a manifest."""

from __future__ import annotations

import json
import shutil
from importlib.util import find_spec
from pathlib import Path

from nvreg.config.yaml import write_yaml
from nvreg.errors import UserError
from nvreg.files import WEIGHT_FILES, changed_files, check_output, exclusive, write_digests, write_text
from nvreg.finetune.bench import Bench, open_bench
from nvreg.finetune.epochs import Announcer, Checkpoints, History, scores_of
from nvreg.finetune.regularisers import REGULARISERS
from nvreg.finetune.schema import FineTuning, TrainingOptions
from nvreg.finetune.trainer import DivergedError, TaskTrainer
from nvreg.progress import Progress

TRAINING_MANIFEST = "training.json"
"""Name of the file that a finished directory gets last."""

LOG = "training.jsonl"
"""Name of the file with the numbers of every epoch, in a finished directory."""

CHECKPOINTS = "checkpoints"
"""Name of the directory that an unfinished training goes on from."""


def run_finetuning(finetuning: FineTuning, *, quiet: bool = False) -> list[Path]:
    """Fine-tune a model once for each seed that its output directory does not hold yet.

    A training that was interrupted goes on from its last finished epoch, to the same weights.

    Args:
        finetuning: the fine-tuning file.
        quiet: show no progress.

    Returns:
        The directory of each seed's checkpoint.

    Raises:
        UserError: if anything the file names cannot be had, the directory is another fine-tuning's, or the
            training of some seed diverged, which is said once the others are trained.
    """
    if find_spec("accelerate") is None:
        raise UserError(
            "expected accelerate, which training needs, got none; pip install nvreg[finetune] has it"
        )
    output = Path(finetuning.output)
    with Progress(quiet) as progress:
        progress.warn(finetuning.model.warnings)
        progress.phase("loading model and data")
        bench = open_bench(finetuning)
        for note in (f"training in {bench.precision.description}", *bench.task.notes):
            progress.say(note)
        check_output(output, bench.subject, lambda theirs: {key: theirs.get(key) for key in bench.subject})
        output.mkdir(parents=True, exist_ok=True)
        with exclusive(output):
            write_text(output / "manifest.json", json.dumps(bench.subject, indent=1) + "\n")
            resolved = write_yaml(finetuning.model_dump())
            write_text(output / "finetuning.yaml", resolved)
            failures: list[str] = []
            directories = [output / f"seed-{seed}" for seed in finetuning.training.seeds]
            for seed, directory in zip(finetuning.training.seeds, directories, strict=True):
                if is_finished(directory, seed, progress):
                    progress.say(f"seed {seed}: finished before, in {directory}")
                else:
                    try:
                        train_seed(bench, seed, directory, progress)
                    except DivergedError as error:
                        failures.append(f"seed {seed}: {error}")
                        progress.say(failures[-1])
                        continue
                shutil.rmtree(directory / CHECKPOINTS, ignore_errors=True)
    if failures:
        others = f" (and {len(failures) - 1} more seeds)" if failures[1:] else ""
        raise UserError(f"{failures[0]}{others}")
    return directories


def is_finished(directory: Path, seed: int, progress: Progress) -> bool:
    """Return whether a seed is trained; one whose weights are no longer those that were saved is not."""
    if not (directory / TRAINING_MANIFEST).exists():
        return False
    if changed := changed_files(directory):
        progress.say(f"seed {seed}: {directory / changed[0]} is not as it was written; trained again")
        (directory / TRAINING_MANIFEST).unlink()
    return not changed


def train_seed(bench: Bench, seed: int, directory: Path, progress: Progress) -> None:
    """Train one seed, from the pretrained weights or the last finished epoch, and save it.

    Args:
        bench: what is trained, and on what.
        seed: decides a new head, the order of examples, dropout and what the method draws.
        directory: where the checkpoint is written; a training that was interrupted there goes on.
        progress: where the training is shown.

    Raises:
        DivergedError: if a loss, a weight or a score is not finite; nothing is saved then.
    """
    finetuning, training = bench.finetuning, bench.finetuning.training
    model = bench.model(seed)
    regulariser = REGULARISERS[finetuning.method](model, finetuning.regulariser, seed)
    checkpoints = Checkpoints((directory / CHECKPOINTS).resolve(), training.early_stopping, progress.say)
    trainer = TaskTrainer(model, regulariser, bench, seed, checkpoints.directory)
    trainer.add_callback(checkpoints)
    trainer.add_callback(Announcer(progress, seed))
    history, last_weights = _train(trainer, checkpoints, training)
    best = history.best(training.early_stopping)
    if last_weights != best["step"]:
        trainer.load_weights(checkpoints.at(best["step"]))
    trainer.check_weights()
    applied = regulariser.describe()
    regulariser.detach_()
    trainer.release().save_pretrained(directory)
    bench.tokenizer.save_pretrained(directory)
    write_digests(directory, WEIGHT_FILES)
    write_text(directory / LOG, "".join(json.dumps(entry) + "\n" for entry in history.log))
    manifest = {
        **bench.subject,
        **finetuning.model.trusted,
        "applied": applied,
        "seed": seed,
        "seconds": history.seconds,
        "epochs": history.log[-1]["epoch"],
        "steps": history.log[-1]["step"],
        "best": {"epoch": best["epoch"], "step": best["step"], **scores_of(best)},
        "precision": bench.precision.description,
        **bench.environment,
    }
    write_text(directory / TRAINING_MANIFEST, json.dumps(manifest, indent=1) + "\n")
    progress.say(f"seed {seed}: best epoch {best['epoch']:g}, {history.seconds:.0f} s, in {directory}")


def _train(
    trainer: TaskTrainer, checkpoints: Checkpoints, training: TrainingOptions
) -> tuple[History, int | None]:
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
