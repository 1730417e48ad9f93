"""``nvreg try``."""

import shlex
from pathlib import Path
from typing import Annotated

import typer

from nvreg.cli.options import (
    InDomain,
    Model,
    MoreDomains,
    OutOfDomain,
    Overrides,
    Quiet,
    TaskName,
    asker,
    check_new_directory,
    open_in_browser,
    print_markdown,
    say,
)

Output = Annotated[
    Path | None,
    typer.Option(
        "--output",
        file_okay=False,
        help="A new directory, or that of an earlier try, which goes on.",
        show_default="try- and the model's name",
    ),
]
Open = Annotated[bool, typer.Option("--open/--no-open", help="Open the report in a browser.")]


def try_(
    model: Model,
    in_domain: InDomain,
    out_of_domain: OutOfDomain,
    more: MoreDomains = None,
    output: Output = None,
    task: TaskName = None,
    overrides: Overrides = None,
    open: Open = True,
    quiet: Quiet = False,
) -> None:
    """Try a model on some data in one go: nvreg init, a small sweep, and its report.

    Ten settings of NV in each space that the model has, and of its output temperature, are measured on a few
    hundred records of each domain. What a PATH is, and how the task is told, is as with nvreg init. The
    directory gets the experiment file, to be changed and swept on, and the results under results/. Run again,
    it continues.

    Example:
        nvreg try ./my-model --in-domain data/news --out-of-domain data/talks data/manuals
    """
    from nvreg.start.data import SMALL
    from nvreg.start.draft import DraftRequest, name_of
    from nvreg.start.writing import is_written, write_experiment

    directory = output or Path(f"try-{name_of(model)}")
    file, run, domains = directory / "experiment.yaml", directory / "results", [*out_of_domain, *(more or ())]
    request = DraftRequest(model, in_domain, domains, file, str(run), task, overrides or (), SMALL)
    if not is_written(request):
        check_new_directory(directory)
        write_experiment(request, asker(), is_timed=False, quiet=quiet)

    from nvreg.experiment import load_experiment
    from nvreg.report.analysis import analyse
    from nvreg.report.selection import Leaders
    from nvreg.report.writing import write_report
    from nvreg.results import RunFiles
    from nvreg.sweep.runner import run_sweep

    experiment = load_experiment(file).model_copy(update={"output": str(run)})
    outcome = run_sweep(experiment, leaders=Leaders(), quiet=quiet)
    print_markdown(write_report(analyse(run, ())))
    page = RunFiles(run).page
    say(
        f"written to {page}; more settings: nvreg sweep --config {shlex.quote(str(file))} --trials 30",
        err=True,
    )
    if open:
        open_in_browser(page)
    if outcome.failed:
        raise typer.Exit(1)
