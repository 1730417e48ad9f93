"""Peak memory of one forward: on a CPU, each in a process of its own."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from pathlib import Path

import torch

import nvreg
from benchmarks.shapes import SETTINGS, build, prior_of
from benchmarks.workloads import workloads_of


def peaks(
    shape: str, dtype: str, device: str, workload: str, method: str, setting: str, times: int
) -> list[float]:
    """Return the most memory, model included, that one workload takes, each time anew.

    Args:
        shape: a name of `SHAPES`.
        dtype: a name in torch.
        device: "cpu": resident memory of fresh processes, which Linux alone tells; or a GPU, where what
            torch has allocated counts.
        workload: a name of `workloads_of`.
        method: a name of `METHODS`, or empty for the unconverted model.
        setting: a name of `SETTINGS`, or empty likewise.
        times: how many.
    """
    if device != "cpu":
        return [float(_measure(shape, dtype, device, workload, method, setting)) for _ in range(times)]
    command = [sys.executable, "-m", "benchmarks.memory", shape, dtype, device, workload, method, setting]
    # glibc moves this threshold up while it runs, and then keeps freed tensors as its own.
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "131072"}
    runs = (
        subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
        for _ in range(times)
    )
    return [float(run.stdout) for run in runs]


def _measure(shape: str, dtype: str, device: str, workload: str, method: str, setting: str) -> int:
    gc.collect()
    before = 0 if device == "cpu" else torch.cuda.memory_allocated()
    model = build(shape, getattr(torch, dtype), device)
    if method:
        nvreg.convert_(model, prior_of(model, method), SETTINGS[setting])
    lengths = [int(workload.split()[-1])] if workload.startswith("prefill") else []
    run = workloads_of(model, lengths)[workload]
    if device == "cpu":
        Path("/proc/self/clear_refs").write_text("5")  # forget the peak of building the model
    else:
        torch.cuda.reset_peak_memory_stats()
    with torch.inference_mode():
        run(model)
    if device != "cpu":
        return torch.cuda.max_memory_allocated() - before
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.split("VmHWM:")[1].split()[0])


if __name__ == "__main__":
    print(_measure(*sys.argv[1:]))
