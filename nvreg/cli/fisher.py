"""``nvreg fisher``."""

from pathlib import Path
from typing import Annotated

import typer

from nvreg.cli.options import (
    DATA,
    Force,
    Model,
    Quiet,
    SourceLanguage,
    SourcePrefix,
    TargetLanguage,
    make_reading,
    say,
)
from nvreg.errors import UserError
from nvreg.files import FISHER_FORMAT, check_file

Out = Annotated[Path, typer.Argument(metavar="OUT", help="The file of scores (JSON).")]
Data = Annotated[str, typer.Option("--data", metavar=DATA, help="Text.")]
Column = Annotated[str, typer.Option("--column", help="Column of texts, or of sources.")]
TargetColumn = Annotated[
    str | None,
    typer.Option("--target-column", help="Column of targets, for the loss of an encoder-decoder model."),
]
LabelColumn = Annotated[
    str | None,
    typer.Option("--label-column", help="Column of labels, for the loss of a classifier."),
]
TagColumn = Annotated[
    str | None,
    typer.Option(
        "--tag-column",
        help="Column of the words' tags, for the loss of a tagger; "
        "if this and --column are numbers, they are columns of a CoNLL file.",
    ),
]
Limit = Annotated[
    int | None, typer.Option("--limit", min=1, help="Random examples to use.", show_default="all")
]


def fisher(
    model: Model,
    out: Out,
    data: Data,
    column: Column,
    target_column: TargetColumn = None,
    label_column: LabelColumn = None,
    tag_column: TagColumn = None,
    source_prefix: SourcePrefix = None,
    source_language: SourceLanguage = None,
    target_language: TargetLanguage = None,
    limit: Limit = None,
    force: Force = False,
    quiet: Quiet = False,
) -> None:
    """Estimate the Fisher scores of a model's dropout sites, for guided dropout.

    The loss is that of the checkpoint's head, or of the head that --target-column, --label-column or
    --tag-column asks for. Run again after an interruption, it continues.

    Example:
        nvreg fisher ./encoder fisher.json --data general.jsonl --column text --limit 500
    """
    check_file(out, FISHER_FORMAT, force=force)
    if sum(map(bool, (target_column, label_column, tag_column))) > 1:
        raise UserError("expected one of --target-column, --label-column and --tag-column, got several")
    if not target_column and (got := source_prefix or source_language or target_language):
        raise UserError(f"expected a prefix or language only with --target-column, got {got}")
    from nvreg.finetune.text import Columns, fisher_of_file
    from nvreg.progress import Progress

    columns = Columns(column, target_column, label_column, tag_column)
    reading = make_reading(source_prefix, source_language, target_language)
    with Progress(quiet) as progress:
        scores = fisher_of_file(model, out, data, columns, limit, progress, reading)
    say(f"{scores.loss} scores of {len(scores.sites)} dropout sites of {model} written to {out}")
