"""What it takes to keep several temperatures: python -m benchmarks.temperatures EXPERIMENT.

Scoring of an experiment's in-domain validation set by the pretrained model, likelihood alone, with the
experiment's temperatures, with none, and with none as before there were temperatures (256 positions at a
time), interleaved in one process: seconds of CPU, medians, and ratios of the same round.
"""

import statistics
import sys
import time

import torch

from benchmarks.timing import ratio
from nvreg.experiment import load_experiment
from nvreg.sweep.workbench import open_workbench
from nvreg.tasks import forward

ROUNDS = 25
METRICS = ["evaluation.metrics=[nll]", "selection.metric=nll"]


def main(path: str, *overrides: str) -> None:
    keeping, none = (
        open_workbench(load_experiment(path, [*METRICS, *overrides, *extra]))
        for extra in ([], ["evaluation.temperatures=[]"])
    )
    cached = forward._CACHED
    seconds = {"before": [], "none": [], "kept": []}
    for number in range(ROUNDS + 1):
        for name, workbench in (("before", none), ("none", none), ("kept", keeping)):
            vocabulary = workbench.model.config.get_text_config().vocab_size
            before = -(-forward._POSITIONS * vocabulary // torch.get_num_threads())
            forward._CACHED = before if name == "before" else cached
            started = time.process_time()
            with torch.inference_mode():
                workbench.task.score(workbench.model, workbench.in_domain_validation.encoded)
            if number:
                seconds[name].append(time.process_time() - started)
    medians = ", ".join(f"{name} {statistics.median(each):.2f} s" for name, each in seconds.items())
    kept = len(keeping.experiment.evaluation.temperatures)
    print(f"{keeping.experiment.name}: {medians}; {kept} temperatures take")
    print(f"  {ratio(seconds['kept'], seconds['none'])} times the time of none,")
    print(f"  {ratio(seconds['kept'], seconds['before'])} times that of 256 positions at a time")


if __name__ == "__main__":
    main(*sys.argv[1:])
