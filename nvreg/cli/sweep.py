"""``nvreg sweep``."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from nvreg.cli.options import Overrides, Quiet, names_in, one_of, say
from nvreg.errors import UserError, expected_one_of

if TYPE_CHECKING:
    from nvreg.experiment import Experiment

Config = Annotated[Path, typer.Option("--config", help="The experiment file.", show_default=False)]
Output = Annotated[
    Path | None, typer.Option("--output", help="Directory of the results.", show_default="the file's output")
]
Methods = Annotated[
    list[str] | None,
    typer.Option(
        "--method",
        help="Try this method alone, repeatable.",
        show_default="all of the file",
        autocompletion=names_in("nvreg.methods:METHODS"),
    ),
]
Trials = Annotated[
    int | None, typer.Option("--trials", min=1, help="How many settings to try.", show_default="the file's")
]
ExecutorName = Annotated[
    Literal["local", "ray"],
    one_of("--executor", "local", "ray", help="In this process, or on Ray workers."),
]
Workers = Annotated[
    int | None,
    typer.Option("--workers", min=1, help="Ray workers.", show_default="one a GPU, or for the CPUs"),
]
CpusPerWorker = Annotated[int, typer.Option("--cpus-per-worker", min=1, help="CPU cores of a Ray worker.")]
GpusPerWorker = Annotated[
    float | None,
    typer.Option(
        "--gpus-per-worker",
        min=0.01,
        help="GPUs of a Ray worker; 0.5: two share one.",
        show_default="one where there are as many",
    ),
]
RayAddress = Annotated[
    str | None,
    typer.Option("--ray-address", help="A running Ray cluster.", show_default="one started on this machine"),
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Check everything, estimate time and memory, write nothing.")
]
FailFast = Annotated[bool, typer.Option("--fail-fast", help="Stop at the first trial that fails.")]
RetryFailed = Annotated[bool, typer.Option("--retry-failed", help="Measure failed trials again.")]


def sweep(
    config: Config,
    overrides: Overrides = None,
    output: Output = None,
    method: Methods = None,
    trials: Trials = None,
    executor: ExecutorName = "local",
    workers: Workers = None,
    cpus_per_worker: CpusPerWorker = 1,
    gpus_per_worker: GpusPerWorker = None,
    ray_address: RayAddress = None,
    dry_run: DryRun = False,
    fail_fast: FailFast = False,
    retry_failed: RetryFailed = False,
    quiet: Quiet = False,
) -> None:
    """Measure the pretrained model, then every setting of an experiment, in and out of domain.

    Run again, it continues: nothing that is finished is measured twice, and what anything has changed is
    measured anew. A trial that fails is kept with its error, and the command then ends with exit code 1.
    nvreg watch shows how a running sweep goes, and nvreg report what is finished.

    Example:
        nvreg sweep --config my.yaml --dry-run

        nvreg sweep --config my.yaml --set evaluation.window=256 --trials 50 --output results/short

        nvreg sweep --config my.yaml --executor ray --workers 8
    """
    if executor == "local" and (workers or ray_address or cpus_per_worker > 1 or gpus_per_worker):
        raise UserError(
            "expected --workers, --cpus-per-worker, --gpus-per-worker and --ray-address only with "
            "--executor ray, got --executor local, which has one worker"
        )
    from nvreg.experiment import load_experiment

    changes = [*(overrides or ()), *([f"sweep.trials={trials}"] if trials else ())]
    experiment = load_experiment(config, changes)
    if output:
        experiment = experiment.model_copy(update={"output": str(output)})
    if method:
        experiment = _limited(experiment, method)

    from nvreg.report.selection import Leaders
    from nvreg.sweep.dry_run import describe_plan
    from nvreg.sweep.executors import Resources
    from nvreg.sweep.runner import run_sweep

    if dry_run:
        say(describe_plan(experiment, quiet=quiet))
        return
    resources = Resources(workers, cpus_per_worker, gpus_per_worker, ray_address)
    outcome = run_sweep(
        experiment,
        resources=resources if executor == "ray" else None,
        leaders=Leaders(),
        fail_fast=fail_fast,
        retry_failed=retry_failed,
        quiet=quiet,
    )
    if outcome.failed:
        raise typer.Exit(1)


def _limited(experiment: "Experiment", methods: Sequence[str]) -> "Experiment":
    """Return the experiment with some of its methods."""
    tried = experiment.sweep.methods
    for name in methods:
        if name not in tried:
            raise UserError(f"--method: {expected_one_of(tried, name, 'one of the file,')}")
    sweep = experiment.sweep.model_copy(update={"methods": {name: tried[name] for name in methods}})
    return experiment.model_copy(update={"sweep": sweep})
