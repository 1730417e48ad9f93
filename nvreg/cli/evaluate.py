"""``nvreg evaluate``."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from nvreg.cli.options import (
    DATA,
    DomainFiles,
    Force,
    ModelOrOut,
    NoiseShare,
    Overrides,
    PriorFile,
    PriorWeight,
    Quiet,
    Space,
    TauAlpha,
    TauMu,
    TauSigma,
    names_in,
    one_of,
    print_markdown,
    read_nv_setting,
    say,
)
from nvreg.errors import UserError
from nvreg.files import EVALUATION_FORMAT, check_file

TaskName = Annotated[
    str,
    typer.Option(
        "--task",
        help="What the model is to do, as in an experiment file.",
        autocompletion=names_in("nvreg.tasks:TASKS"),
    ),
]
Column = Annotated[
    str | None,
    typer.Option("--column", help="Column of texts, sources, contexts or words.", show_default="the task's"),
]
TargetColumn = Annotated[
    str | None,
    typer.Option("--target-column", help="Column of targets or summaries.", show_default="the task's"),
]
LabelColumn = Annotated[
    str | None,
    typer.Option(
        "--label-column", "--tag-column", help="Column of labels or tags.", show_default="the task's"
    ),
]
Metrics = Annotated[
    list[str] | None,
    typer.Option(
        "--metric",
        help="Metric, repeatable.",
        show_default="all of the task",
        autocompletion=names_in("nvreg.metrics:METRICS"),
    ),
]
Limit = Annotated[
    int | None,
    typer.Option("--limit", min=1, help="Examples of each file, the first ones.", show_default="all"),
]
PriorData = Annotated[
    str | None,
    typer.Option(
        "--prior-data",
        metavar=DATA,
        help="In-domain training text with the same columns, for the prior where there is none, "
        "and for --prior-weight.",
        show_default="none",
    ),
]
Against = Annotated[
    str | None,
    typer.Option(
        "--against",
        metavar="OTHER",
        help="A model to compare with on the same examples; 'pretrained' is the same one, unregularised.",
        show_default="none",
    ),
]
Dtype = Annotated[
    Literal["float32", "bfloat16", "float16", "auto"],
    one_of(
        "--dtype",
        "float32",
        "bfloat16",
        "float16",
        "auto",
        help="Precision of the weights and of what is computed with them; auto is the checkpoint's.",
    ),
]
Device = Annotated[
    str, typer.Option("--device", help="As PyTorch names it; auto is the GPU if there is one.")
]
Output = Annotated[
    Path | None,
    typer.Option(
        "--output",
        dir_okay=False,
        help="File of the result (JSON); - prints it in place of the table.",
        show_default="none",
    ),
]
LogExamples = Annotated[
    bool, typer.Option("--log-examples", help="Write every example's scores beside --output, a line each.")
]


def evaluate(
    model: ModelOrOut,
    task: TaskName,
    data: DomainFiles,
    column: Column = None,
    target_column: TargetColumn = None,
    label_column: LabelColumn = None,
    metric: Metrics = None,
    limit: Limit = None,
    space: Space = None,
    prior: PriorFile = None,
    prior_data: PriorData = None,
    prior_weight: PriorWeight = None,
    tau_alpha: TauAlpha = None,
    tau_sigma: TauSigma = None,
    noise_share: NoiseShare = None,
    tau_mu: TauMu = None,
    against: Against = None,
    overrides: Overrides = None,
    dtype: Dtype = "float32",
    device: Device = "auto",
    output: Output = None,
    log_examples: LogExamples = False,
    force: Force = False,
    quiet: Quiet = False,
) -> None:
    """Score a model, regularised or not, on some data sets: one score without an experiment file.

    Keys of the data and evaluation sections of an experiment file are set with --set, as in
    --set evaluation.window=512.

    Example:
        nvreg evaluate ./my-model --task language-modelling --data news.jsonl --data talks.jsonl

        nvreg evaluate OUT --task classification --data talks.jsonl --against pretrained --output talks.json
    """
    is_printed = output is not None and str(output) == "-"
    if log_examples and (output is None or is_printed):
        raise UserError("expected --output FILE with --log-examples, which writes beside it, got none")
    if output is not None and not is_printed:
        check_file(output, EVALUATION_FORMAT, force=force)
    setting = read_nv_setting(
        prior_weight=prior_weight,
        tau_alpha=tau_alpha,
        tau_sigma=tau_sigma,
        noise_share=noise_share,
        tau_mu=tau_mu,
    )
    columns = {"--column": column, "--target-column": target_column, "--label-column": label_column}

    from nvreg.evaluation.measure import evaluate as measure
    from nvreg.evaluation.presentation import EXAMPLES_MARK, examples_files, page, to_json, write
    from nvreg.evaluation.request import Regularisation, make_request
    from nvreg.inspection.measure import domain_names
    from nvreg.progress import Progress

    if output is not None and log_examples:
        for path in examples_files(output, domain_names(data)).values():
            check_file(path, EXAMPLES_MARK, force=force)
    request = make_request(
        task, model, columns=columns, metrics=metric, overrides=overrides or (), dtype=dtype, device=device
    )
    wanted = Regularisation(setting, space, prior, prior_data)
    with Progress(quiet) as progress:
        evaluated = measure(request, data, wanted, against, limit, progress)
    if is_printed:
        say(to_json(evaluated.result).rstrip())
        return
    print_markdown(page(evaluated.result))
    for path in write(evaluated, output, with_examples=log_examples) if output else ():
        say(f"written to {path}", err=True)
