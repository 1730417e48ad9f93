"""The command line: one file a command, without logic of its own."""

from __future__ import annotations

import logging
import os
import sys
import textwrap
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from inspect import getdoc, signature
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

import nvreg
from nvreg.cli.options import say
from nvreg.cli.renamed import today_s
from nvreg.environment import commit
from nvreg.errors import NvregWarning, UserError, explained
from nvreg.registry import Registry, package_fault
from nvreg.text import on_one_line, without_secrets

COMMANDS: Registry[Callable[..., None]] = Registry(
    "command",
    {
        "try": "nvreg.cli.try_:try_",
        "init": "nvreg.cli.init:init",
        "sweep": "nvreg.cli.sweep:sweep",
        "watch": "nvreg.cli.watch:watch",
        "report": "nvreg.cli.report:report",
        "compare": "nvreg.cli.compare:compare",
        "convert": "nvreg.cli.convert:convert",
        "export": "nvreg.cli.export:export",
        "prior": "nvreg.cli.prior:prior",
        "inspect": "nvreg.cli.inspect:inspect",
        "evaluate": "nvreg.cli.evaluate:evaluate",
        "lm-eval": "nvreg.cli.lm_eval:lm_eval",
        "finetune": "nvreg.cli.finetune:finetune",
        "fisher": "nvreg.cli.fisher:fisher",
        "demo": "nvreg.cli.demo:demo",
        "architectures": "nvreg.cli.architectures:architectures",
        "methods": "nvreg.cli.methods:methods",
        "schema": "nvreg.cli.schema:schema",
    },
)
"""Every command by its name, in the order of ``nvreg --help``."""

PASSED_ON = {"allow_extra_args": True, "ignore_unknown_options": True}
"""What lets a command that takes a context find in it the options that are another program's."""

QUIET = {
    "DATASETS_VERBOSITY": "error",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_VERBOSITY": "error",
    "TOKENIZERS_PARALLELISM": "false",
    "TRANSFORMERS_VERBOSITY": "error",
}
"""Variables that the libraries read when they are imported, which commands do only when they run."""

LOUD_ON_IMPORT = ("torchao", "torch.utils._pytree")
"""Loggers of what Transformers imports where torchao is installed, without variables to read."""


LONGEST = 500
"""Characters of a mistake on the command line at most: what was given may be of any length."""


class Commands(TyperGroup):
    """Commands that end in one line and an exit code, whatever they raise."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find the command that the arguments name, or named in an earlier version."""
        return super().resolve_command(ctx, today_s(args))

    def make_context(self, info_name: str | None, args: list[str], *more: Any, **extra: Any) -> Any:
        """Read the options before the command; where there is nothing, typer prints the help."""
        with _mistakes_in_a_line() if args else nullcontext():
            return super().make_context(info_name, args, *more, **extra)

    def invoke(self, ctx: Any) -> Any:
        """Run a command: exit code 2 for a user's mistake, 1 for any other error."""
        try:
            with _mistakes_in_a_line():
                return super().invoke(ctx)
        except (typer.Exit, typer.Abort):
            raise
        except BrokenPipeError:
            # Who closes the pipe that a command prints to has what they wanted, as `head` has.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what is still to be flushed
            raise typer.Exit from None
        except Exception as error:
            if ctx.params["debug"]:
                raise
            line = str(error) if isinstance(error, UserError) else explained(error) or package_fault(error)
            bug = f"{type(error).__name__}: {error} (nvreg --debug shows where)"
            say(f"nvreg: {on_one_line(without_secrets(line or bug))}", err=True)
            raise typer.Exit(2 if line else 1) from error


@contextmanager
def _mistakes_in_a_line() -> Iterator[None]:
    """Have what typer says of a command line be a line, as all other mistakes are."""
    try:
        yield
    except typer.TyperException as error:
        context = getattr(error, "ctx", None)
        where = f"; see {context.command_path} --help" if context else ""
        line = textwrap.shorten(error.format_message().rstrip("."), LONGEST)
        say(f"nvreg: {on_one_line(without_secrets(line))}{where}", err=True)
        raise typer.Exit(error.exit_code) from error


def make_app() -> typer.Typer:
    """Return the command line with every command that is registered."""
    app = typer.Typer(cls=Commands, no_args_is_help=True, pretty_exceptions_enable=False)
    app.callback()(_root)
    for name, command in COMMANDS.items():
        text, examples = described(command)
        settings = PASSED_ON if "context" in signature(command).parameters else None
        epilog = "\n\n".join(["Example:", *examples])
        app.command(name, help=text, epilog=epilog, context_settings=settings)(command)
    return app


def described(command: Callable[..., None]) -> tuple[str, list[str]]:
    """Return a command's docstring, a line each paragraph, and its examples, a line each after "Example:"."""
    text, _, examples = (getdoc(command) or "").partition("Example:\n")
    paragraphs = [" ".join(paragraph.split()) for paragraph in text.strip().split("\n\n")]
    return "\n\n".join(paragraphs), [line.strip() for line in examples.splitlines() if line.strip()]


def _print_version(wanted: bool) -> None:
    if wanted:
        known = commit()
        say(f"nvreg {nvreg.__version__}" + (f" (commit {known[:12]})" if known else ""))
        raise typer.Exit


def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    """Regularise a pretrained model after training, and measure it on other domains."""


def _warning_line(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
) -> str:
    return f"nvreg: {on_one_line(str(message))}\n"


app = make_app()


def main() -> None:
    """Run the command line, which shows nvreg's own warnings, a line each, and none of the libraries'."""
    os.environ.update(QUIET | os.environ)
    warnings.simplefilter("ignore")
    warnings.simplefilter("always", NvregWarning)
    warnings.formatwarning = _warning_line
    for name in LOUD_ON_IMPORT:
        logging.getLogger(name).setLevel(logging.ERROR)
    sys.exit(app())
