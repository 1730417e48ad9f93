"""``nvreg convert``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nvreg.cli.settings import TauAlpha, TauMu, TauSigma, read_settings
from nvreg.errors import UserError

if TYPE_CHECKING:
    from nvreg.prior.artefact import Prior


def _print_architectures(wanted: bool) -> None:
    if wanted:
        from nvreg.models.registry import architectures

        for heading, table in zip(("layout", "refused because"), architectures(), strict=True):
            typer.echo(f"| {heading} | model types |\n|---|---|")
            for name, model_types in table.items():
                typer.echo(f"| {name} | {', '.join(sorted(model_types))} |")
            typer.echo()
        raise typer.Exit


Model = Annotated[str, typer.Argument(help="Directory of a checkpoint, or its name on the hub.")]
Out = Annotated[Path, typer.Argument(help="Directory of the converted checkpoint, new or empty.")]
PriorFile = Annotated[Path | None, typer.Option("--prior", help="The prior, as nvreg prior wrote it.")]
PriorData = Annotated[
    Path | None,
    typer.Option("--prior-data", help="In-domain training text to estimate the prior on instead."),
]
Column = Annotated[
    str | None, typer.Option("--column", help="Column of texts, or of sources, in --prior-data.")
]
TargetColumn = Annotated[
    str | None,
    typer.Option("--target-column", help="Column of targets in --prior-data, for an encoder-decoder model."),
]
List = Annotated[
    bool,
    typer.Option(
        "--list", callback=_print_architectures, is_eager=True, help="Print what is converted and refused."
    ),
]


def convert(
    model: Model,
    out: Out,
    prior: PriorFile = None,
    prior_data: PriorData = None,
    column: Column = None,
    target_column: TargetColumn = None,
    tau_alpha: TauAlpha = None,
    tau_sigma: TauSigma = None,
    tau_mu: TauMu = None,
    listed: List = False,
) -> None:
    """Save a checkpoint with its attention regularised; a role not named is as pretrained."""
    if out.exists() and any(out.iterdir()):
        raise UserError(f"expected a new or empty directory, received {out}, which has files")
    settings = read_settings(tau_alpha, tau_sigma, tau_mu)

    from nvreg.checkpoint import save_pretrained
    from nvreg.models.convert import convert_
    from nvreg.models.loading import load_model, load_tokenizer
    from nvreg.models.registry import layers_by_role

    loaded = load_model(model)
    try:
        settings.check(layers_by_role(loaded))
    except ValueError as error:
        raise UserError(str(error)) from error
    convert_(loaded, _prior(model, prior, prior_data, column, target_column), settings)
    save_pretrained(loaded, out)
    load_tokenizer(model).save_pretrained(out)
    typer.echo(f"{model} with {settings} written to {out}")


def _prior(
    model: str, prior: Path | None, data: Path | None, column: str | None, target_column: str | None
) -> Prior:
    if prior and not data:
        from nvreg.prior.artefact import Prior

        return Prior.load(prior)
    if data and not prior and column:
        from nvreg.sweep.priors import prior_of_file
        from nvreg.sweep.progress import Progress

        with Progress() as progress:
            return prior_of_file(model, data, column, target_column, progress)
    raise UserError("expected --prior FILE, or --prior-data FILE with --column")
