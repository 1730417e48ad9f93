"""What a sweep would do, in how much time and memory: everything is loaded, nothing is written."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from threading import Event, Thread
from typing import Self

import psutil
import torch

from nvreg.data import Examples
from nvreg.experiment import Experiment, Sweep
from nvreg.models.teacher_forcing import device_of
from nvreg.parameters import Setting
from nvreg.progress import Progress
from nvreg.results import PRETRAINED, RunFiles
from nvreg.samplers import Random
from nvreg.sweep.manifest import check_directory
from nvreg.sweep.plan import Plan
from nvreg.sweep.workbench import (
    Priors,
    Workbench,
    calibration_sample,
    open_workbench,
    prior_for,
    priors_of,
)

SAMPLE_EXAMPLES = 200
"""How many examples a setting is timed on at most, spread over all splits."""

SAMPLE_SECONDS = 3.0
"""How long the pretrained model takes for the examples that a setting is timed on, where it is slow."""

CLOCK_SECONDS = 1e-3
"""The least time that is told: the clocks of some systems stand still for longer."""

WARM_UP_EXAMPLES = 16
"""How many are scored before: what runs for the first time loads libraries and allocates memory."""

PATIENCE = 20.0
"""How long `WARM_UP_EXAMPLES` may take: where they take longer, fewer of them stand for all."""

FEWEST_EXAMPLES = 4
"""How many a setting is timed on at least."""

SAMPLE_TOKENS = 1000
"""How many tokens the prior of the timed setting is estimated on."""

SECONDS_BETWEEN_SAMPLES = 0.02
"""How often the memory of the process is looked at."""


def describe_plan(experiment: Experiment, *, quiet: bool = False) -> str:
    """Return what `plan_rows` does as lines of text; arguments and errors are the same."""
    rows = plan_rows(experiment, quiet=quiet)
    return "\n".join(f"{name:<12}{text}" for name, text in rows.items())


def plan_rows(experiment: Experiment, *, quiet: bool = False) -> dict[str, str]:
    """Check everything as a sweep does, time a setting on a sample, and return the plan by its parts.

    Args:
        experiment: the experiment.
        quiet: show no progress.

    Raises:
        UserError: as `nvreg.sweep.runner.run_sweep`.
    """
    output = Path(experiment.output)
    quick_prior = experiment.prior.model_copy(update={"max_tokens": SAMPLE_TOKENS})
    with Progress(quiet) as progress:
        progress.warn(experiment.model.warnings)
        progress.phase("loading model and data")
        workbench = open_workbench(experiment.model_copy(update={"prior": quick_prior}))
        for note in workbench.notes:
            progress.say(note)
        check_directory(output, workbench)
        priors = priors_of(workbench, RunFiles(output), progress)
        with PeakMemory(device_of(workbench.model)) as memory:
            costs = _measured_costs(workbench, priors, progress)
    model, planned = workbench.model, _planned(workbench.plan)
    of_methods = [f"{name} {_duration(costs[name].seconds)}" for name in workbench.plan.methods]
    return {
        "experiment": f"{experiment.name}, {experiment.task}",
        "model": f"{type(model).__name__}, {model.num_parameters():,} parameters, {device_of(model)}",
        "examples": _describe_examples(workbench),
        "trials": f"{sum(planned.values())}, the pretrained model's first, "
        + _describe_sweep(experiment.sweep),
        "time": f"about {_duration(seconds_in_all(costs, planned))} and the prior; "
        f"a trial of {', of '.join(of_methods)}{_how_roughly(workbench, costs[PRETRAINED])}",
        "memory": f"about {memory.bytes / 1e9:.1f} GB",
        "output": f"{output}{', which has trials already' if output.exists() else ''}",
    }


def _how_roughly(workbench: Workbench, cost: Cost) -> str:
    """Say on how few examples a slow model was timed; nothing where they were enough."""
    examples = sum(len(each.examples) for splits in workbench.scored.values() for each in splits.values())
    timed = round(cost.share * examples)
    return f"; roughly, as {timed} examples took long" if timed < min(WARM_UP_EXAMPLES, examples) else ""


def _describe_sweep(sweep: Sweep) -> str:
    searched = f"methods: {', '.join(sweep.methods)}; seeds: {', '.join(map(str, sweep.seeds))}"
    racing = f"; racing after {sweep.racing.after} examples" if sweep.racing else ""
    return f"{searched}; sampler: {sweep.sampler}{racing}"


def _describe_examples(workbench: Workbench) -> str:
    """Return the numbers of examples by domain, and where some are cut."""
    splits = [
        (domain, split, scored)
        for domain, by_split in workbench.scored.items()
        for split, scored in by_split.items()
    ]
    counts = defaultdict(list)
    for domain, split, scored in splits:
        counts[domain].append(f"{len(scored.examples)} {split}")
    cut = [f"{domain} {split} {n}" for domain, split, scored in splits if (n := scored.encoded.truncated)]
    numbers = "; ".join(f"{domain}: {', '.join(each)}" for domain, each in counts.items())
    return f"{numbers}; cut to fit: {', '.join(cut)}" if cut else numbers


@dataclass(frozen=True)
class Cost:
    """What a trial costs, from a sample of its examples.

    Attributes:
        setting: seconds of bringing the model to the setting, prior weights solved for.
        scoring: seconds of scoring the sample.
        share: how much of all examples the sample is.
    """

    setting: float
    scoring: float
    share: float

    @property
    def seconds(self) -> float:
        """How long the whole trial takes."""
        return self.setting + self.scoring / self.share


def seconds_in_all(costs: Mapping[str, Cost], planned: Mapping[str, int]) -> float:
    """Return how long all trials take: of each method as many as are planned, at what one of it costs.

    Args:
        costs: by method, the pretrained model among them.
        planned: how many trials of each there are.
    """
    return sum(costs[name].seconds * trials for name, trials in planned.items())


def _planned(plan: Plan) -> dict[str, int]:
    """Return how many trials of each method there are, over all seeds, and of the pretrained model."""
    planned = Counter({PRETRAINED: 1})
    for search in plan.searches:
        planned[search.method] += search.planned
    return dict(planned)


def _measured_costs(workbench: Workbench, priors: Priors, progress: Progress) -> dict[str, Cost]:
    """Return what a trial of the pretrained model costs, and one of each method."""
    model, task = workbench.model, workbench.task
    records = [
        record
        for splits in workbench.scored.values()
        for scored in splits.values()
        for record in scored.examples.records
    ]

    def spread(count: int) -> Examples:
        return Examples(records[:: -(-len(records) // count)])

    warm_up = task.encode(spread(WARM_UP_EXAMPLES))
    methods = workbench.plan.methods
    progress.phase("timing the pretrained model and a setting of each method", 1 + len(methods))
    seconds = _seconds_of(lambda: task.score(model, warm_up))
    if seconds < PATIENCE:
        seconds = _seconds_of(lambda: task.score(model, warm_up))
    affordable, bearable = (int(WARM_UP_EXAMPLES * each / seconds) for each in (SAMPLE_SECONDS, PATIENCE))
    fewest = min(max(bearable, FEWEST_EXAMPLES), WARM_UP_EXAMPLES)
    sample = spread(min(max(affordable, fewest), SAMPLE_EXAMPLES))
    encoded = task.encode(sample)

    def cost(set_: Callable[[], object]) -> Cost:
        set_()
        if seconds < SAMPLE_SECONDS:  # of what takes longer, a first time is a small part
            task.score(model, warm_up)
        started = time.monotonic()
        set_()
        is_set = time.monotonic()
        task.score(model, encoded)
        return Cost(is_set - started, time.monotonic() - is_set, len(sample) / len(records))

    costs = {PRETRAINED: cost(lambda: None)}
    progress.step()
    batches = calibration_sample(workbench)
    for name, method in methods.items():
        method.attach_(model, prior_for(method, priors), batches)
        costs[name] = cost(partial(method.set_, model, _some_setting(workbench, name)))
        method.detach_(model)
        progress.step()
    return costs


def _seconds_of(work: Callable[[], object]) -> float:
    started = time.monotonic()
    work()
    return max(time.monotonic() - started, CLOCK_SECONDS)


def _some_setting(workbench: Workbench, name: str) -> Setting:
    """Return the first setting that is tried of a method, or one as its sampler may draw it."""
    for search in workbench.plan.searches:
        if search.method == name and search.settings:
            return search.settings[0]
    written = workbench.experiment.sweep.methods[name]
    kind = written.method.setting_type
    return next(Random(written.dimensions, kind, workbench.layers, seed=0, objectives=1).listed())


def _duration(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 10 else str(timedelta(seconds=round(seconds)))


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
            if self._is_over.wait(SECONDS_BETWEEN_SAMPLES):
                return
