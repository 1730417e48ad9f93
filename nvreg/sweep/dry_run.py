"""What a sweep would do, in how much time and memory: everything is loaded, nothing is written."""

from __future__ import annotations

import time
from datetime import timedelta
from pathlib import Path
from threading import Event, Thread
from typing import Self

import psutil
import torch

from nvreg.data import Examples
from nvreg.experiment import Experiment, Sweep
from nvreg.progress import Progress
from nvreg.results import RunFiles
from nvreg.samplers import Random
from nvreg.sweep.manifest import check_directory
from nvreg.sweep.workbench import Workbench, calibration_sample, open_workbench, prior_for, priors_of

SAMPLE_EXAMPLES = 200
"""How many examples a setting is timed on, spread over all splits."""

SAMPLE_TOKENS = 1000
"""How many tokens the prior of the timed setting is estimated on."""

SECONDS_BETWEEN_LOOKS = 0.02
"""How often the memory of the process is looked at."""


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
        for note in workbench.task.notes:
            progress.say(note)
        check_directory(output, workbench)
        priors = priors_of(workbench, RunFiles(output), progress)
        progress.phase("timing a setting")
        model, trials = workbench.model, 1 + workbench.plan.planned
        name, method = next(iter(workbench.plan.methods.items()))
        space = experiment.sweep.methods[name].dimensions
        settings = Random(space, method.setting_type, workbench.layers, seed=0, objectives=1).listed()
        method.attach_(model, prior_for(method, priors), calibration_sample(workbench))
        method.set_(model, next(settings))
        with PeakMemory(model.device) as memory:
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
        "memory": f"about {memory.bytes / 1e9:.1f} GB",
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


class PeakMemory:
    """Watches the memory in use while it is entered.

    Args:
        device: the model's; the memory of a GPU is its own, any other's is that of the process.

    Attributes:
        bytes: the most that was in use; of a GPU since the process began.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._is_over = Event()
        self._thread = Thread(target=self._watch, daemon=True)
        self.bytes = 0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._thread.join()
        if self._device.type == "cuda":
            self.bytes = torch.cuda.max_memory_allocated(self._device)

    def _watch(self) -> None:
        process = psutil.Process()
        while True:
            self.bytes = max(self.bytes, process.memory_info().rss)
            if self._is_over.wait(SECONDS_BETWEEN_LOOKS):
                return
