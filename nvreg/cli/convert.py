"""``nvreg convert``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nvreg.cli.options import (
    OPENED_BY,
    Model,
    NoiseShare,
    PriorColumn,
    PriorData,
    PriorFile,
    PriorTargetColumn,
    PriorWeight,
    Private,
    Push,
    SourceLanguage,
    SourcePrefix,
    Space,
    TargetLanguage,
    TauAlpha,
    TauMu,
    TauSigma,
    check_new_directory,
    check_push,
    make_reading,
    push,
    read_nv_setting,
    say,
)
from nvreg.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

Out = Annotated[Path, typer.Argument(metavar="OUT", help="A new directory.")]


def convert(
    model: Model,
    out: Out,
    prior: PriorFile = None,
    prior_data: PriorData = None,
    column: PriorColumn = None,
    target_column: PriorTargetColumn = None,
    source_prefix: SourcePrefix = None,
    source_language: SourceLanguage = None,
    target_language: TargetLanguage = None,
    space: Space = None,
    tau_alpha: TauAlpha = None,
    tau_sigma: TauSigma = None,
    noise_share: NoiseShare = None,
    tau_mu: TauMu = None,
    prior_weight: PriorWeight = None,
    push_to: Push = None,
    private: Private = False,
) -> None:
    """Save a checkpoint with its attention regularised; a role not named is as pretrained.

    OUT gets the unchanged weights with prior and setting beside them: plain Transformers loads the pretrained
    model from it, nvreg.from_pretrained the regularised one. A value is one number for all roles, or one a
    role (encoder, cross, decoder). What a sweep chose is saved by nvreg export. --push needs a token of the
    hub: of HF_TOKEN, or of `hf auth login`.

    Example:
        nvreg convert ./my-model OUT --prior prior.safetensors --tau-alpha encoder=-3,cross=-7 --tau-sigma 0.1

        nvreg convert ./my-model OUT --prior-data train.jsonl --column text --prior-weight decoder=0.05
    """
    check_new_directory(out, is_replaced=True)
    check_push(push_to, private)
    setting = read_nv_setting(
        prior_weight=prior_weight,
        tau_alpha=tau_alpha,
        tau_sigma=tau_sigma,
        noise_share=noise_share,
        tau_mu=tau_mu,
    )
    _check_text(prior, prior_data, column, setting.is_calibrated)
    if setting.is_identity:
        say(
            "nvreg: no setting is given, so attention stays as pretrained; --prior-weight, --tau-alpha, "
            "--tau-sigma, --noise-share and --tau-mu say what to change",
            err=True,
        )

    from nvreg.attention.settings import Settings
    from nvreg.card import Provenance
    from nvreg.checkpoint import save_pretrained
    from nvreg.config import source_of
    from nvreg.estimation.calibration import calibrate
    from nvreg.estimation.estimate import estimate_prior
    from nvreg.files import whole_directory
    from nvreg.models.convert import convert_, current_settings
    from nvreg.models.dispatching import left_alone
    from nvreg.models.loading import load_model, load_tokenizer
    from nvreg.models.registry import layers_by_role, site_modules
    from nvreg.models.weight_files import WeightFiles
    from nvreg.prior.artefact import Prior
    from nvreg.progress import Progress
    from nvreg.tasks.sampling import CALIBRATION_TOKENS, batches_of_file

    loaded, tokenizer = load_model(model), load_tokenizer(model)
    known = Prior.load(prior) if prior else None
    if known and space and known.space != space:
        raise UserError(f"expected a prior of {space!r} space in {prior}, got one of {known.space!r} space")
    try:
        setting.check(layers_by_role(loaded, known.space if known else space or "inputs"))
    except ValueError as error:
        raise UserError(str(error)) from error

    reading = make_reading(source_prefix, source_language, target_language)

    def text(tokens: int | None = None) -> list[dict[str, Tensor]]:
        assert prior_data
        assert column
        return batches_of_file(
            loaded, tokenizer, prior_data, column, target_column, tokens=tokens, reading=reading
        )

    with Progress() as progress:
        if known is None:
            space = space or "inputs"
            counted = progress.over(f"estimating the prior (space: {space})", text())
            known = estimate_prior(loaded, counted, space=space)
        if setting.is_calibrated:
            progress.phase("solving for tau_alpha")
            settings = calibrate(loaded, known, text(CALIBRATION_TOKENS), **setting.to_dict())
        else:
            settings = Settings.from_dict(setting.to_dict())
    with whole_directory(out) as aside:
        try:
            training = source_of(prior_data, "train") if prior_data and not prior else None
            made = Provenance(model, push_to, training)
            save_pretrained(convert_(loaded, known, settings), aside, like=WeightFiles.of(model), made=made)
        except ValueError as error:
            raise UserError(str(error)) from error
        tokenizer.save_pretrained(aside)
    resolved = current_settings(loaded) if "noise_share" in settings.to_dict() else settings
    say(f"{model} with {resolved} (space: {known.space}) written to {out}")
    say(OPENED_BY)
    if known.space == "heads" and (others := left_alone(loaded, site_modules(loaded))):
        named = ", ".join(f"{name} ({kind})" for name, kind in others.items())
        say(f"left as they are, as they have no softmax attention to text: {named}")
    push(out, push_to, private)


def _check_text(prior: Path | None, data: str | None, column: str | None, is_calibrated: bool) -> None:
    if is_calibrated and not (data and column):
        raise UserError(
            "expected --prior-data FILE with --column, the text on which --prior-weight is solved for"
        )
    if not is_calibrated and (bool(prior) == bool(data) or not (prior or column)):
        raise UserError("expected --prior FILE, or --prior-data FILE with --column")
