"""``nvreg prior``."""

from pathlib import Path
from typing import Annotated

import typer

from nvreg.cli.options import (
    DATA,
    Force,
    Model,
    SourceLanguage,
    SourcePrefix,
    Space,
    TargetLanguage,
    make_reading,
    say,
)
from nvreg.files import PRIOR_FORMAT, check_file

Out = Annotated[Path, typer.Argument(metavar="OUT", help="The prior's file (safetensors).")]
Data = Annotated[str, typer.Option("--data", metavar=DATA, help="In-domain training text.")]
Column = Annotated[str, typer.Option("--column", help="Its column of texts, sources or words.")]
TargetColumn = Annotated[
    str | None, typer.Option("--target-column", help="Its column of targets, for an encoder-decoder model.")
]


def prior(
    model: Model,
    out: Out,
    data: Data,
    column: Column,
    target_column: TargetColumn = None,
    space: Space = None,
    source_prefix: SourcePrefix = None,
    source_language: SourceLanguage = None,
    target_language: TargetLanguage = None,
    force: Force = False,
) -> None:
    """Estimate the empirical prior of a model and save it.

    The prior is the moments of what attention reads at every site, over in-domain training text. nvreg
    convert, inspect and a sweep (prior: {path: FILE}) take the file.

    Example:
        nvreg prior ./my-model prior.safetensors --data train.jsonl --column en --target-column de

        nvreg prior ./my-model heads.safetensors --data train.jsonl --column text --space heads
    """
    check_file(out, PRIOR_FORMAT, force=force)
    from nvreg.estimation.estimate import estimate_prior
    from nvreg.models.loading import load_model, load_tokenizer
    from nvreg.progress import Progress
    from nvreg.tasks.sampling import batches_of_file

    loaded = load_model(model)
    reading = make_reading(source_prefix, source_language, target_language)
    batches = batches_of_file(loaded, load_tokenizer(model), data, column, target_column, reading=reading)
    with Progress() as progress:
        space = space or "inputs"
        counted = progress.over(f"estimating the prior (space: {space})", batches)
        estimate_prior(loaded, counted, space=space).save(out)
    say(f"prior of {model} over {data} (space: {space}) written to {out}")
