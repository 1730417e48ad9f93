"""The setting that a run chose, as a checkpoint."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from transformers import PreTrainedModel

from nvreg.checkpoint import save_pretrained
from nvreg.errors import UserError
from nvreg.identity import fingerprint
from nvreg.models.loading import load_model, load_tokenizer
from nvreg.prior.artefact import Prior
from nvreg.report.choice import Choice
from nvreg.results import PRETRAINED, RunFiles
from nvreg.sweep.worker import made_methods

WRITERS: Mapping[str, Callable[[PreTrainedModel, Path], None]] = {
    "nv": save_pretrained,
    "nv-gaussian": save_pretrained,
    **dict.fromkeys(("weight-noise", "low-rank", "wise-ft"), PreTrainedModel.save_pretrained),
}
"""How a model under a method's setting is saved, by method; the others have no form as a checkpoint."""


def save_chosen(choice: Choice, out: Path) -> None:
    """Set the model of a run to a trial's setting, and save it with its tokenizer.

    Args:
        choice: the trial, of an NV method or one that changes weights, or the pretrained model's.
        out: the directory of the checkpoint. One of an NV method is as `nvreg.save_pretrained` writes it,
            another is plain.

    Raises:
        UserError: if the method has no form as a checkpoint, or the model is no longer the one of the run.
    """
    run, arm, trial = choice
    write = WRITERS.get(arm.method)
    if write is None and trial.method != PRETRAINED:
        raise UserError(
            f"expected a method that a checkpoint can hold ({', '.join(WRITERS)}), got {arm.method}; "
            "its settings live in a running model alone"
        )
    source = run.experiment.model
    trust = source.trust_remote_code
    model = load_model(
        source.path,
        run.experiment.task,
        revision=source.revision,
        dtype=source.dtype,
        device=source.device,
        trust_remote_code=trust,
    )
    if fingerprint(model) != run.manifest["model"]:
        raise UserError(
            f"expected the model that {run.directory} was measured with, got another in {source.path}; "
            "put it back, or sweep again"
        )
    if write is None:
        model.save_pretrained(out)
    else:
        method = made_methods(run.experiment)[arm.method]
        method.attach_(model, Prior.load(RunFiles(run.directory).prior), ())
        method.set_(model, method.setting.from_dict(trial.resolved or trial.settings))
        write(model, out)
    load_tokenizer(source.path, revision=source.revision, trust_remote_code=trust).save_pretrained(out)
