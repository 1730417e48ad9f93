"""The command line: one file a command, without logic of its own."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

import nvreg
from nvreg.cli.compare import compare
from nvreg.cli.convert import convert
from nvreg.cli.demo import demo
from nvreg.cli.finetune import finetune
from nvreg.cli.fisher import fisher
from nvreg.cli.inspect import inspect
from nvreg.cli.prior import prior
from nvreg.cli.report import report
from nvreg.cli.sweep import sweep
from nvreg.errors import UserError

QUIET = {
    "DATASETS_VERBOSITY": "error",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_VERBOSITY": "error",
    "TOKENIZERS_PARALLELISM": "false",
    "TRANSFORMERS_VERBOSITY": "error",
}
"""Read by the libraries when they are imported, which commands do only when they run."""

LOUD_ON_IMPORT = ("torchao", "torch.utils._pytree")
"""Loggers of what Transformers imports where torchao is installed, without variables to read."""


class Commands(TyperGroup):
    """Commands that end in one line and an exit code, whatever they raise."""

    def invoke(self, ctx: Any) -> Any:
        """Run a command: exit code 2 for a user's mistake, 1 for any other error."""
        try:
            return super().invoke(ctx)
        except (typer.Exit, typer.Abort, typer.TyperException):
            raise
        except Exception as error:
            if ctx.params["debug"]:
                raise
            mistake = isinstance(error, UserError)
            line = str(error) if mistake else f"{type(error).__name__}: {error} (nvreg --debug shows where)"
            typer.echo(f"nvreg: {' '.join(line.split())}", err=True)
            raise typer.Exit(2 if mistake else 1) from error


app = typer.Typer(cls=Commands, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
for command in (convert, prior, inspect, sweep, report, compare, finetune, fisher, demo):
    app.command()(command)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"nvreg {nvreg.__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    """Regularise a pretrained model after training, and measure it on other domains."""


def main() -> None:
    """Run the command line."""
    os.environ.update(QUIET | os.environ)
    warnings.simplefilter("ignore")
    for name in LOUD_ON_IMPORT:
        logging.getLogger(name).setLevel(logging.ERROR)
    sys.exit(app())
