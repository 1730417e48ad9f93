"""Fine-tuning a model, once a seed: each leaves a plain checkpoint with a record of its training."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel
from yaml import YAMLError

from nvreg.card import Measurement, Provenance, Scorecard, plain_card, write_card
from nvreg.config.yaml import read_yaml, write_yaml
from nvreg.errors import UserError
from nvreg.files import (
    MANIFEST,
    WEIGHT_FILES,
    changed_files,
    check_output,
    exclusive,
    write_digests,
    write_text,
)
from nvreg.finetune.bench import Bench, open_bench
from nvreg.finetune.epochs import INTERVAL, Announcer, Checkpoints, History, scores_of
from nvreg.finetune.regularisers import REGULARISERS
from nvreg.finetune.schema import FineTuning, TrainingOptions
from nvreg.finetune.trainer import DivergedError, TaskTrainer
from nvreg.progress import Progress
from nvreg.results import finite, is_changed_manifest, is_sealed_yaml, sealed_yaml
from nvreg.rounding import with_interval
from nvreg.text import code_in_markdown
from nvreg.trained import RECORD, TrainingRecord, read_manifest, read_record, sealed_text

FILE = "finetuning.yaml"
"""Name of the file that has the fine-tuning as it was understood."""

LOG = "training.jsonl"
"""Name of the file with the numbers of every epoch, in a finished directory."""

CHECKPOINTS = "checkpoints"
"""Name of the directory that an unfinished training goes on from."""


def run_finetuning(finetuning: FineTuning, *, quiet: bool = False) -> list[Path]:
    """Fine-tune a model once for each seed that its output directory does not hold yet.

    A training that was interrupted goes on from its last finished epoch, to the same weights. Where the
    manifest is lost or damaged, it is written again; finished seeds are kept, as their records say whose they
    are, and those under way begin anew, as nothing says so of their checkpoints.

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
        check_directory(output, bench.subject)
        output.mkdir(parents=True, exist_ok=True)
        with exclusive(output):
            if any(output.glob("seed-*")) and not _has_manifest(output):
                progress.say(
                    f"the manifest of {output} is lost or damaged, and is written again; finished seeds are "
                    "kept, and those under way begin anew"
                )
                for path in output.glob(f"seed-*/{CHECKPOINTS}"):
                    path.unlink() if path.is_symlink() else shutil.rmtree(path)
            write_text(output / MANIFEST, sealed_text(bench.subject))
            write_text(output / FILE, sealed_yaml(write_yaml(finetuning.model_dump())))
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


def check_directory(output: Path, subject: Mapping[str, Any]) -> None:
    """Check that an output directory is new, or already this fine-tuning's.

    One whose manifest is lost or damaged is this one's if the records of its finished seeds say so or, where
    none is finished, the file that nvreg wrote there has the name, the task and the method.

    Raises:
        UserError: if it holds another fine-tuning, or something else.
    """
    ours = json.loads(json.dumps(finite(dict(subject))))

    def theirs_of(manifest: dict[str, Any]) -> dict[str, Any]:
        if is_changed_manifest(manifest):
            raise ValueError("damaged")
        return {key: manifest[key] for key in ours}

    def is_ours() -> bool:
        records = [_record_in(path.parent) for path in output.glob(f"seed-*/{RECORD}")]
        theirs = [record.model_dump(include=set(ours)) for record in records if record is not None]
        if theirs:
            return all(_named(each) == _named(ours) for each in theirs)
        try:
            written = read_yaml(text := (output / FILE).read_text(encoding="utf-8"))
            return is_sealed_yaml(text) and all(
                written[key] == ours[key] for key in ("name", "task", "method")
            )
        except (OSError, LookupError, TypeError, ValueError, YAMLError):
            return False

    check_output(output, ours, theirs_of, is_ours)


def _named(subject: Mapping[str, Any]) -> dict[str, Any]:
    """Return a subject as a record has it, which goes wherever its checkpoint goes."""
    return {**subject, "regulariser": _without_paths(subject["regulariser"])}


def _without_paths(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return options in which files go by their last names: their places are this machine's."""
    return {
        name: Path(value).name if isinstance(value, str) and Path(value).is_absolute() else value
        for name, value in options.items()
    }


def _has_manifest(output: Path) -> bool:
    try:
        read_manifest(output / MANIFEST)
    except UserError:
        return False
    return True


def _record_in(directory: Path) -> TrainingRecord | None:
    """Return the record of a seed; None where it is lost or damaged."""
    try:
        return read_record(directory / RECORD)
    except UserError:
        return None


def is_finished(directory: Path, seed: int, progress: Progress) -> bool:
    """Return whether a seed is trained; one whose weights or record are no longer as saved is not."""
    if not (directory / RECORD).exists():
        return False
    record, changed = _record_in(directory), changed_files(directory)
    if record is None or record.seed != seed:
        changed = [RECORD]
    if changed:
        progress.say(f"seed {seed}: {directory / changed[0]} is not as it was written; trained again")
        (directory / RECORD).unlink()
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
    write_card(directory, _card(finetuning, trainer.model, seed, best))
    write_digests(directory, WEIGHT_FILES)
    write_text(directory / LOG, "".join(json.dumps(finite(entry)) + "\n" for entry in history.log))
    record = {
        **_named(bench.subject),
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
    write_text(directory / RECORD, sealed_text(record))
    progress.say(f"seed {seed}: best epoch {best['epoch']:g}, {history.seconds:.0f} s, in {directory}")


def _card(finetuning: FineTuning, model: PreTrainedModel, seed: int, best: dict[str, Any]) -> str:
    domain, training = finetuning.data.in_domain, finetuning.training
    scores = [
        Measurement(
            domain.name,
            "validation",
            metric,
            value,
            with_interval(value, *(ends or (None, None))),
            dict(zip(("low", "high"), ends, strict=True)) if ends else {},
            domain.validation,
        )
        for metric, value in scores_of(best).items()
        for ends in [best.get(INTERVAL + metric)]
    ]
    notes = [f"Of epoch {best['epoch']:g}; brackets are 95 % intervals over examples."]
    if training.early_stopping:
        notes.append(
            f"The epoch is the best by {training.early_stopping.metric} on this set, which flatters it."
        )
    made = Provenance(
        finetuning.model.path, training=domain.train, measured=Scorecard(finetuning.task, scores, notes)
    )
    options = {
        "task": finetuning.task,
        "method": finetuning.method,
        **finetuning.regulariser.model_dump(),
        "seed": seed,
        **training.model_dump(exclude={"seeds", "early_stopping"}),
    }
    facts = {name: str(value) for name, value in _without_paths(options).items()}
    summary = f"{code_in_markdown(made.name)} fine-tuned by `nvreg finetune`, as a plain checkpoint."
    return plain_card(model, made, f"{made.name}, fine-tuned", summary, facts, "finetune")


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
            return trainer.summed_up(last), None
        trainer.resume(last)
    return History(trainer.state.log_history), trainer.state.global_step
