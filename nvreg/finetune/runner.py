"""Fine-tuning a model, once a seed: each leaves a plain checkpoint with a manifest."""

from __future__ import annotations

import json
import shutil
from importlib.util import find_spec
from pathlib import Path

import yaml

from nvreg.directory import check_output, exclusive
from nvreg.errors import UserError
from nvreg.files import write_text
from nvreg.finetune.bench import open_bench
from nvreg.finetune.schema import FineTuning
from nvreg.finetune.training import CHECKPOINTS, MANIFEST, train_seed
from nvreg.progress import Progress


def run_finetuning(finetuning: FineTuning, *, quiet: bool = False) -> list[Path]:
    """Fine-tune a model once for each seed that its output directory does not hold yet.

    A training that was interrupted goes on from its last finished epoch, to the same weights.

    Args:
        finetuning: the fine-tuning file.
        quiet: show no progress.

    Returns:
        The directory of each seed's checkpoint.

    Raises:
        UserError: if anything the file names cannot be had, or the directory is another fine-tuning's.
    """
    if find_spec("accelerate") is None:
        raise UserError(
            "expected accelerate, which training needs; install it with: pip install nvreg[finetune]"
        )
    output = Path(finetuning.output)
    with Progress(quiet) as progress:
        progress.phase("loading model and data")
        bench = open_bench(finetuning)
        progress.say(f"training in {bench.precision.description}")
        check_output(output, bench.subject, lambda theirs: {key: theirs.get(key) for key in bench.subject})
        output.mkdir(parents=True, exist_ok=True)
        with exclusive(output):
            write_text(output / "manifest.json", json.dumps(bench.subject, indent=1) + "\n")
            resolved = yaml.safe_dump(finetuning.model_dump(), sort_keys=False)
            write_text(output / "finetuning.yaml", resolved)
            directories = [output / f"seed-{seed}" for seed in finetuning.training.seeds]
            for seed, directory in zip(finetuning.training.seeds, directories, strict=True):
                if (directory / MANIFEST).exists():
                    progress.say(f"seed {seed}: finished before, in {directory}")
                else:
                    train_seed(bench, seed, directory, progress)
                shutil.rmtree(directory / CHECKPOINTS, ignore_errors=True)
    return directories
