"""``nvreg init``."""

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
    say,
)

Output = Annotated[
    Path | None,
    typer.Option("--output", dir_okay=False, help="The file to write.", show_default="named after the model"),
]


def init(
    model: Model,
    in_domain: InDomain,
    out_of_domain: OutOfDomain,
    more: MoreDomains = None,
    output: Output = None,
    task: TaskName = None,
    overrides: Overrides = None,
    quiet: Quiet = False,
) -> None:
    """Write an experiment file from a model and some data, by looking at both.

    A PATH is a file, a directory with files called train.*, validation.* and test.*, or a data set of the
    hub: hub:NAME, or hub:NAME:CONFIG. What is missing of the three is a random part of what is there.

    The head of the checkpoint tells the task, and names and values of columns tell what they are; what is
    guessed says so beside its key, and --set names it instead. In a terminal the command asks for what it
    cannot see. Before the file is written, all of it is tried as by nvreg sweep --dry-run; time and memory
    stand in its first lines.

    Example:
        nvreg init ./my-model --in-domain data/news --out-of-domain data/talks data/manuals --output my.yaml

        nvreg init ORG/MODEL --in-domain hub:ORG/REVIEWS --out-of-domain a.csv --set data.columns.text=plot
    """
    from nvreg.start.draft import DraftRequest, name_of, new_output
    from nvreg.start.writing import write_experiment

    file = output or Path(f"{name_of(model)}.yaml")
    run, domains = new_output(name_of(file.stem)), [*out_of_domain, *(more or ())]
    request = DraftRequest(model, in_domain, domains, file, run, task, overrides or ())
    for row, text in write_experiment(request, asker(), is_timed=True, quiet=quiet).items():
        say(f"{row:<12}{text}")
    say(f"written to {file}; run it with: nvreg sweep --config {shlex.quote(str(file))}")
