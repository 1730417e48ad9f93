"""``nvreg sweep``."""

from pathlib import Path
from typing import Annotated

import typer

Config = Annotated[Path, typer.Option("--config", help="The experiment file.", show_default=False)]
Overrides = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="A.B=VALUE", help="Change a key of the file, repeatable.", show_default=False
    ),
]
Output = Annotated[
    Path | None, typer.Option("--output", help="Directory of the results.", show_default="the file's output")
]
Trials = Annotated[
    int | None, typer.Option("--trials", min=1, help="How many settings to try.", show_default="the file's")
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Check everything, estimate time and memory, write nothing.")
]
FailFast = Annotated[bool, typer.Option("--fail-fast", help="Stop at the first trial that fails.")]
RetryFailed = Annotated[bool, typer.Option("--retry-failed", help="Measure failed trials again.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="Show no progress.")]


def sweep(
    config: Config,
    overrides: Overrides = None,
    output: Output = None,
    trials: Trials = None,
    dry_run: DryRun = False,
    fail_fast: FailFast = False,
    retry_failed: RetryFailed = False,
    quiet: Quiet = False,
) -> None:
    """Measure the pretrained model, then every setting of an experiment, in and out of domain.

    Run again, it continues: nothing that is finished is measured twice.
    """
    from nvreg.config import load_experiment

    changes = [*(overrides or ()), *([f"sweep.trials={trials}"] if trials else ())]
    experiment = load_experiment(config, changes)
    if output:
        experiment = experiment.model_copy(update={"output": str(output)})

    from nvreg.sweep.dry_run import describe_plan
    from nvreg.sweep.runner import run_sweep

    if dry_run:
        typer.echo(describe_plan(experiment, quiet=quiet))
    elif run_sweep(experiment, fail_fast=fail_fast, retry_failed=retry_failed, quiet=quiet).failed:
        raise typer.Exit(1)
