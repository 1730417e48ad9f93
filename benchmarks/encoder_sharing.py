"""What it saves that settings share the encoder's outputs: python -m benchmarks.encoder_sharing EXPERIMENT.

Teacher-forced scoring of an experiment's data at settings that differ in cross-attention alone, with and
without outputs kept, interleaved in one process: seconds of CPU a setting, medians, and their ratio.
"""

import statistics
import sys
import time
from pathlib import Path

from nvreg.experiment import load_experiment
from nvreg.progress import Progress
from nvreg.sweep import worker
from nvreg.sweep.workbench import open_workbench, prior_of

GRID = [
    "evaluation.metrics=[perplexity]",
    "selection.metric=perplexity",
    "prior={kind: gaussian}",
    "sweep={sampler: grid, space: {tau_sigma: {cross: {values: [0.05, 0.1, 0.2, 0.3]}, decoder: 0.1}}}",
]


def main(path: str) -> None:
    experiment = load_experiment(path, GRID)
    workbench = open_workbench(experiment)
    prior = prior_of(workbench, Path("no file"), Progress(quiet=True))
    [search] = workbench.plan.searches
    seconds = {"apart": [], "shared": []}
    for _ in range(2):
        for name, budget in (("apart", 0), ("shared", worker.ENCODER_BYTES)):
            seconds[name] += measure(worker.Worker(workbench, prior, []), search.settings, budget)[1:]
    apart, shared = (statistics.median(each) for each in seconds.values())
    print(f"apart {apart:.2f} s, shared {shared:.2f} s a setting: {apart / shared:.2f} times")


def measure(worker_: worker.Worker, settings: list, budget: int) -> list[float]:
    worker_._states = worker.EncoderStates(budget)
    taken = []
    for number, setting in enumerate(settings):
        started = time.process_time()
        measured = worker_.measure(worker.Job(str(number), number, "nv", setting), lambda: None)
        taken.append(time.process_time() - started)
        if measured.exception:
            raise measured.exception
    worker_._methods["nv"].detach_(worker_._workbench.model)
    return taken


if __name__ == "__main__":
    main(*sys.argv[1:])
