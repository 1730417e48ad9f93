"""What a sweep would do, in how much time and memory: everything is loaded, nothing is written."""

from __future__ import annotations

import resource
import sys
import time
from datetime import timedelta
from pathlib import Path

import torch

from nvreg.data import Examples
from nvreg.experiment import Experiment, Sweep
from nvreg.progress import Progress
from nvreg.results import RunFiles
from nvreg.sweep.manifest import check_directory
from nvreg.sweep.priors import calibration_sample, prior_of
from nvreg.sweep.search import any_setting, planned
from nvreg.sweep.workbench import Workbench, open_workbench
from nvreg.sweep.worker import made_methods

SAMPLE_EXAMPLES = 200
"""What a setting is timed on, spread over all splits."""
SAMPLE_TOKENS = 1000
"""What the prior of the timed setting is estimated on."""


def describe_plan(experiment: Experiment, *, quiet: bool = False) -> str:
    """Check everything as a sweep does, time a setting on a sample, and return the plan.

    Args:
        experiment: the experiment.
        quiet: show no progress.

    Raises:
        UserError: as `nvreg.sweep.runner.run_sweep`.
    """
    output = Path(experiment.output)
    quick_prior = experiment.prior.model_copy(update={"max_tokens": SAMPLE_TOKENS})
    with Progress(quiet) as progress:
        progress.phase("loading model and data")
        workbench = open_workbench(experiment.model_copy(update={"prior": quick_prior}))
        check_directory(output, workbench)
        prior = prior_of(workbench, RunFiles(output).prior, progress)
        progress.phase("timing a setting")
        model, trials = workbench.model, 1 + planned(experiment.sweep, workbench.layers)
        name, method = next(iter(made_methods(experiment).items()))
        method.attach_(model, prior, calibration_sample(workbench))
        method.set_(model, any_setting(experiment.sweep, name, workbench.layers))
        seconds = _seconds_a_trial(workbench)
    rows = {
        "experiment": f"{experiment.name}, {experiment.task}",
        "model": f"{type(model).__name__}, {model.num_parameters():,} parameters, {model.device}",
        "examples": ", ".join(
            f"{domain} {split} {len(scored.examples)} ({scored.encoded.truncated} cut to fit)"
            for domain, splits in workbench.scored.items()
            for split, scored in splits.items()
        ),
        "trials": f"{trials}, the pretrained model's first, {_describe_sweep(experiment.sweep)}",
        "time": f"about {_duration(seconds)} a trial, {_duration(seconds * trials)} for all, and the prior",
        "memory": f"about {_peak_bytes(model.device) / 1e9:.1f} GB",
        "output": f"{output}{', which has trials already' if output.exists() else ''}",
    }
    return "\n".join(f"{name:<12}{text}" for name, text in rows.items())


def _describe_sweep(sweep: Sweep) -> str:
    searched = f"methods: {', '.join(sweep.methods)}; seeds: {', '.join(map(str, sweep.seeds))}"
    racing = f"; racing after {sweep.racing.after} examples" if sweep.racing else ""
    return f"{searched}; sampler: {sweep.sampler}{racing}"


def _seconds_a_trial(workbench: Workbench) -> float:
    records = [
        record
        for splits in workbench.scored.values()
        for scored in splits.values()
        for record in scored.examples.records
    ]
    sample = records[:: -(-len(records) // SAMPLE_EXAMPLES)]
    encoded = workbench.task.encode(Examples(sample))
    started = time.monotonic()
    workbench.task.score(workbench.model, encoded)
    return (time.monotonic() - started) / len(sample) * len(records)


def _duration(seconds: float) -> timedelta:
    return timedelta(seconds=round(seconds))


def _peak_bytes(device: torch.device) -> int:
    """Return the largest memory used so far: of the accelerator, or of the process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
