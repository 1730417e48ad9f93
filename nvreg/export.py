"""The setting that a run chose, as a checkpoint."""

from __future__ import annotations

from pathlib import Path

from nvreg.digests import fingerprint
from nvreg.errors import UserError
from nvreg.files import whole_directory
from nvreg.methods import METHODS
from nvreg.models.weight_files import WeightFiles
from nvreg.prior.artefact import Prior
from nvreg.report.selection import ChosenTrial
from nvreg.results import PRETRAINED, RunFiles
from nvreg.sweep.workbench import load_subject


def save_chosen(choice: ChosenTrial, out: Path) -> None:
    """Set the model of a run to a trial's setting, and save it with its tokenizer.

    Args:
        choice: the trial, of an NV method or one that changes weights, or the pretrained model's.
        out: the directory of the checkpoint. One of an NV method is as `nvreg.save_pretrained` writes it,
            another is plain.

    Raises:
        UserError: if the method has no form as a checkpoint, or model or prior are no longer the run's.
    """
    run, arm, trial = choice
    is_saved = METHODS[arm.method].is_saved
    if not is_saved and trial.method != PRETRAINED:
        saved = ", ".join(name for name, method in METHODS.items() if method.is_saved)
        raise UserError(
            f"expected a method that a checkpoint can hold ({saved}), got {arm.method}; "
            "its settings live in a running model alone"
        )
    model, tokenizer = load_subject(run.experiment.model, run.experiment.task)
    if fingerprint(model) != run.manifest["model"]:
        raise UserError(
            f"expected the model that {run.directory} was measured with, got another in "
            f"{run.experiment.model.path}; put it back, or sweep again"
        )
    weights = WeightFiles.of(run.experiment.model.path, run.experiment.model.revision)
    if is_saved:
        method = run.experiment.sweep.methods[arm.method].make()
        space = method.space
        files, prior = RunFiles(run.directory), None
        if space is not None:
            prior = Prior.load(files.prior_of(space), files.fingerprint_of_prior(space))
        method.attach_(model, prior, ())
        method.set_(model, method.setting_type.from_dict(trial.resolved or trial.settings))
    with whole_directory(out) as aside:
        if is_saved:
            method.save(model, aside, weights)
        else:
            weights.save(model, aside)
        tokenizer.save_pretrained(aside)
