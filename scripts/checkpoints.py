"""Make the models of a trained demo those that come with nvreg: ``make demo`` ends in this.

python -m scripts.checkpoints results/trained
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from nvreg.demo.build import BUILT_IN, copy_checkpoints
from nvreg.demo.recipe import RECIPES


def ship(demo: Path, target: Path = BUILT_IN) -> None:
    """Replace what is shipped by the checkpoints of a demo that ``nvreg demo --train`` made, in float16."""
    for task in RECIPES:
        shutil.rmtree(target / task, ignore_errors=True)
        (target / task).mkdir(parents=True)
        copy_checkpoints(demo / task, target / task, "float16")


if __name__ == "__main__":
    ship(Path(sys.argv[1]))
