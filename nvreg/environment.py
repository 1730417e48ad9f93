"""What a run is made with: versions, commit and hardware, for its manifest."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

PACKAGES = ("torch", "transformers", "datasets", "sacrebleu", "rouge-score", "numpy")

COMMIT_FILE = "commit.txt"
"""The file of an installed package that has the commit it was built from (hatch_build.py)."""


def environment(device: str) -> dict[str, Any]:
    """Return versions, commit and hardware.

    Args:
        device: the kind of device that the model is on, as `device_kind` names it.
    """
    return {
        "nvreg": version("nvreg"),
        "versions": {"python": platform.python_version()} | {name: version(name) for name in PACKAGES},
        "git_commit": commit(),
        "hardware": {"machine": platform.machine(), "cores": os.cpu_count(), "device": device},
    }


def device_kind(device: torch.device) -> str:
    """Return what kind of device it is: the name of a GPU's model, or else the type, as ``cpu``."""
    import torch

    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def commit() -> str | None:
    """Return the commit that the package was built from, or that of its checkout; None if unknown."""
    package = Path(__file__).parent
    built = package / COMMIT_FILE
    if built.is_file():
        return built.read_text(encoding="utf-8").strip()
    return git_commit(package.parent)


def git_commit(checkout: Path) -> str | None:
    """Return the commit of a checkout; None where it is none, or git is not there."""
    if not (checkout / ".git").exists():
        return None
    git = ["git", "-C", str(checkout), "rev-parse", "HEAD"]
    try:
        return subprocess.run(git, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
