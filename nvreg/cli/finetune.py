"""``nvreg finetune``."""

from pathlib import Path
from typing import Annotated

import typer

from nvreg.cli.options import Overrides, Quiet, say

Config = Annotated[Path, typer.Option("--config", help="The fine-tuning file.", show_default=False)]
Output = Annotated[
    Path | None,
    typer.Option("--output", help="Directory of the checkpoints.", show_default="the file's output"),
]


def finetune(
    config: Config, overrides: Overrides = None, output: Output = None, quiet: Quiet = False
) -> None:
    """Fine-tune a model, plainly or with a regulariser, to one plain checkpoint a seed.

    Run again, it continues: finished seeds are not trained again, an unfinished one goes on. The directories
    of the checkpoints are printed; nvreg sweep takes each as a model. nvreg schema --kind finetune describes
    the file.

    Example:
        nvreg finetune --config ft.yaml

        nvreg finetune --config ft.yaml --set training.learning_rate=1e-5 --output results/ft-slow
    """
    from nvreg.finetune.schema import load_finetuning

    finetuning = load_finetuning(config, overrides or ())
    if output:
        finetuning = finetuning.model_copy(update={"output": str(output)})

    from nvreg.finetune.training import run_finetuning

    for directory in run_finetuning(finetuning, quiet=quiet):
        say(directory)
