"""``nvreg inspect``."""

from pathlib import Path
from typing import Annotated

import typer

from nvreg.cli.options import (
    DATA,
    DomainFiles,
    Force,
    ModelOrOut,
    NoiseShare,
    PriorWeight,
    SourceLanguage,
    SourcePrefix,
    TargetLanguage,
    TauAlpha,
    TauMu,
    TauSigma,
    make_reading,
    print_markdown,
    read_nv_setting,
    say,
)
from nvreg.errors import UserError

PriorFile = Annotated[
    Path | None,
    typer.Option(
        "--prior", help="The prior of a checkpoint; a converted model has its own, and its setting."
    ),
]
PriorData = Annotated[
    str | None,
    typer.Option(
        "--prior-data", metavar=DATA, help="In-domain training text, on which --prior-weight is solved for."
    ),
]
Column = Annotated[str, typer.Option("--column", help="Its column of texts, sources or words.")]
TargetColumn = Annotated[
    str | None, typer.Option("--target-column", help="Its column of targets, for an encoder-decoder model.")
]
Limit = Annotated[int, typer.Option("--limit", min=1, help="Examples of each file, the first ones.")]
Output = Annotated[
    Path | None,
    typer.Option(
        "--output",
        file_okay=False,
        help="Directory for inspect.csv, inspect.png (a heat map) and inspect.md (what is printed).",
    ),
]


def inspect(
    model: ModelOrOut,
    data: DomainFiles,
    column: Column,
    target_column: TargetColumn = None,
    source_prefix: SourcePrefix = None,
    source_language: SourceLanguage = None,
    target_language: TargetLanguage = None,
    prior: PriorFile = None,
    prior_data: PriorData = None,
    prior_weight: PriorWeight = None,
    tau_alpha: TauAlpha = None,
    tau_sigma: TauSigma = None,
    noise_share: NoiseShare = None,
    tau_mu: TauMu = None,
    limit: Limit = 200,
    output: Output = None,
    force: Force = False,
) -> None:
    """Show what a setting does to the attention of every layer and head, in one or more domains.

    Shown are prior weight, discarded share, entropy, and divergence from the pretrained attention. A model
    that nvreg convert or nvreg export wrote has prior and setting; of a plain checkpoint they are given as
    options.

    Example:
        nvreg inspect OUT --data news.jsonl --data talks.jsonl --column text --output inspection

        nvreg inspect ./my-model --prior prior.safetensors --tau-sigma 0.2 --data news.jsonl --column text
    """
    setting = read_nv_setting(
        prior_weight=prior_weight,
        tau_alpha=tau_alpha,
        tau_sigma=tau_sigma,
        noise_share=noise_share,
        tau_mu=tau_mu,
    )
    if setting.is_calibrated != (prior_data is not None):
        raise UserError(
            "expected --prior-weight with --prior-data FILE, on which it is solved for, got one alone"
        )

    from nvreg.inspection.measure import inspect_model
    from nvreg.progress import Progress

    reading = make_reading(source_prefix, source_language, target_language)
    with Progress() as progress:
        page = inspect_model(
            model,
            prior,
            setting,
            prior_data,
            data,
            column,
            target_column,
            reading,
            limit,
            output,
            progress,
            force=force,
        )
    print_markdown(page)
    if output is not None:
        say(f"written to {output / 'inspect.csv'}, inspect.png and inspect.md", err=True)
