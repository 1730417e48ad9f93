"""Peak memory of one forward, each in a process of its own (Linux)."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import torch

import nvreg
from benchmarks.shapes import SETTINGS, build
from benchmarks.workloads import workloads_of


def peak_bytes(shape: str, dtype: str, workload: str, setting: str | None) -> int:
    """Return the largest resident memory, model included, of a fresh process running one workload.

    Args:
        shape: a name of `SHAPES`.
        dtype: a name in torch.
        workload: a name of `workloads_of`.
        setting: a name of `SETTINGS`, or None for the unconverted model.
    """
    command = [sys.executable, "-m", "benchmarks.memory", shape, dtype, workload, setting or ""]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def _measure(shape: str, dtype: str, workload: str, setting: str) -> int:
    model = build(shape, getattr(torch, dtype))
    if setting:
        nvreg.convert_(model, nvreg.Prior.gaussian(model), SETTINGS[setting])
    run = workloads_of(model, [int(workload.split()[-1])] if workload.startswith("prefill") else [])[workload]
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak of building the model
    with torch.inference_mode():
        run(model)
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.split("VmHWM:")[1].split()[0])


if __name__ == "__main__":
    print(_measure(*sys.argv[1:]))
