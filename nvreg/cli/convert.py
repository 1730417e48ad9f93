"""``nvreg convert``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nvreg.cli.reading import SourceLanguage, SourcePrefix, TargetLanguage, make_reading
from nvreg.cli.settings import PriorWeight, TauAlpha, TauMu, TauSigma, read_nv_setting
from nvreg.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor


def _print_architectures(wanted: bool) -> None:
    if wanted:
        from nvreg.models.registry import architectures

        for heading, table in zip(("layout", "refused because"), architectures(), strict=True):
            typer.echo(f"| {heading} | model types |\n|---|---|")
            for name, model_types in table.items():
                typer.echo(f"| {name} | {', '.join(sorted(model_types))} |")
            typer.echo()
        raise typer.Exit


Paths = Annotated[
    list[str],
    typer.Argument(
        metavar="[MODEL] OUT",
        help="A checkpoint, or its name on the hub (not with --from-results), and a new directory.",
    ),
]
PriorFile = Annotated[Path | None, typer.Option("--prior", help="The prior, as nvreg prior wrote it.")]
PriorData = Annotated[
    Path | None,
    typer.Option(
        "--prior-data", help="In-domain training text, for the prior where none is given, and --prior-weight."
    ),
]
Column = Annotated[
    str | None, typer.Option("--column", help="Column of texts, or of sources, in --prior-data.")
]
TargetColumn = Annotated[
    str | None,
    typer.Option("--target-column", help="Column of targets in --prior-data, for an encoder-decoder model."),
]
Results = Annotated[
    Path | None,
    typer.Option("--from-results", help="Save what a run of nvreg sweep chose, the model it had."),
]
Protocol = Annotated[str | None, typer.Option("--protocol", help="How to choose, with --from-results.")]
Domain = Annotated[str | None, typer.Option("--domain", help="For which test set, if the protocol asks.")]
Method = Annotated[str | None, typer.Option("--method", help="Among the settings of which, of several.")]
Seed = Annotated[int | None, typer.Option("--seed", help="Of which search, of several.")]
List = Annotated[
    bool,
    typer.Option(
        "--list", callback=_print_architectures, is_eager=True, help="Print what is converted and refused."
    ),
]


def convert(
    paths: Paths,
    prior: PriorFile = None,
    prior_data: PriorData = None,
    column: Column = None,
    target_column: TargetColumn = None,
    source_prefix: SourcePrefix = None,
    source_language: SourceLanguage = None,
    target_language: TargetLanguage = None,
    tau_alpha: TauAlpha = None,
    tau_sigma: TauSigma = None,
    tau_mu: TauMu = None,
    prior_weight: PriorWeight = None,
    from_results: Results = None,
    protocol: Protocol = None,
    domain: Domain = None,
    method: Method = None,
    seed: Seed = None,
    listed: List = False,
) -> None:
    """Save a checkpoint with its attention regularised; a role not named is as pretrained."""
    *models, last = paths
    out = Path(last)
    if out.is_file() or (out.is_dir() and any(out.iterdir())):
        raise UserError(f"expected a new or empty directory, got {out}, which is there already")
    setting = read_nv_setting(prior_weight, tau_alpha, tau_sigma, tau_mu)
    if from_results:
        text_options = (column, target_column, source_prefix, source_language, target_language)
        if not protocol or models or any((prior, prior_data, *text_options)) or not setting.is_identity:
            raise UserError(
                "expected OUT --from-results DIR --protocol PROTOCOL, and no model, prior, text or setting"
            )
        _convert_chosen(out, from_results, protocol, domain, method, seed)
        return
    if len(models) != 1 or any((protocol, domain, method, seed is not None)):
        raise UserError("expected MODEL and OUT, and --protocol and so on only with --from-results")
    (model,) = models
    _check_text(prior, prior_data, column, setting.is_calibrated)

    from nvreg.attention.settings import Settings
    from nvreg.checkpoint import save_pretrained
    from nvreg.estimation.calibration import calibrate
    from nvreg.estimation.estimate import estimate_prior
    from nvreg.models.convert import convert_
    from nvreg.models.loading import load_model, load_tokenizer
    from nvreg.models.registry import layers_by_role
    from nvreg.prior.artefact import Prior
    from nvreg.progress import Progress
    from nvreg.tasks.files import batches_of_file
    from nvreg.tasks.sampling import CALIBRATION_TOKENS

    loaded, tokenizer = load_model(model), load_tokenizer(model)
    try:
        setting.check(layers_by_role(loaded))
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
        if prior:
            moments = Prior.load(prior)
        else:
            moments = estimate_prior(loaded, progress.over("estimating the prior", text()))
        if setting.is_calibrated:
            progress.phase("solving for tau_alpha")
            settings = calibrate(loaded, moments, text(CALIBRATION_TOKENS), **setting.to_dict())
        else:
            settings = Settings.from_dict(setting.to_dict())
    save_pretrained(convert_(loaded, moments, settings), out)
    tokenizer.save_pretrained(out)
    typer.echo(f"{model} with {settings} written to {out}")


def _convert_chosen(
    out: Path, results: Path, protocol: str, domain: str | None, method: str | None, seed: int | None
) -> None:
    from nvreg.report.selection import choose_trial, setting_text

    choice = choose_trial(results, protocol, domain=domain, method=method, seed=seed)

    from nvreg.export import save_chosen

    save_chosen(choice, out)
    _, arm, trial = choice
    found = f"chooses trial {trial.number} of {arm.method}, {setting_text(trial)}"
    typer.echo(
        f"{protocol} {found if trial.number else 'keeps the pretrained model, unchanged'}; written to {out}"
    )


def _check_text(prior: Path | None, data: Path | None, column: str | None, is_calibrated: bool) -> None:
    if is_calibrated and not (data and column):
        raise UserError(
            "expected --prior-data FILE with --column, the text on which --prior-weight is solved for"
        )
    if not is_calibrated and (bool(prior) == bool(data) or not (prior or column)):
        raise UserError("expected --prior FILE, or --prior-data FILE with --column")
