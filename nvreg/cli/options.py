"""What commands share: options that name a setting or say how text is read, and how anything is printed."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from nvreg.errors import UserError, expected_one_of
from nvreg.parameters import read_value
from nvreg.text import visible

if TYPE_CHECKING:
    from nvreg.config import Reading
    from nvreg.methods.nv import NVSetting
    from nvreg.start.subject import Ask

BY_ROLE = "NUMBER|ROLE=NUMBER,..."
"""How a value of a setting is written."""

DATA = "PATH|ADDRESS|hub:NAME"
"""How data is written; PATH may be a glob, and {hub: NAME, split: "test[:500]"} has all keys of a source."""

OPENED_BY = (
    "it opens regularised by nvreg.from_pretrained, nvreg evaluate and nvreg lm-eval, and as pretrained by "
    "Transformers and lm_eval --model hf"
)
"""What opens a converted checkpoint as what."""


def one_of(option: str, *names: str, help: str, show_default: str | bool = True) -> Any:
    """Return an option that takes one of some names; another is a mistake like any unknown name."""

    def parse(given: str) -> str:
        if given not in names:
            raise UserError(f"{option}: {expected_one_of(names, given)}")
        return given

    return typer.Option(
        option,
        metavar="|".join(names),
        parser=parse,
        help=help,
        show_default=show_default,
        autocompletion=lambda incomplete: [name for name in names if name.startswith(incomplete)],
    )


def names_in(registry: str) -> Callable[[str], list[str]]:
    """Return what completes the names of a registry, which is imported when a shell asks.

    Args:
        registry: ``package.module:attribute``.
    """

    def complete(incomplete: str) -> list[str]:
        module, _, attribute = registry.partition(":")
        known = getattr(import_module(module), attribute)
        return [name for name in known if name.startswith(incomplete)]

    return complete


Model = Annotated[
    str, typer.Argument(metavar="MODEL", help="Directory of a checkpoint, or its name on the hub.")
]
ModelOrOut = Annotated[
    str,
    typer.Argument(
        metavar="MODEL_OR_OUT",
        help="Directory of a checkpoint or of a converted model, or a name on the hub.",
    ),
]
DomainFiles = Annotated[
    list[str],
    typer.Option(
        "--data",
        metavar=DATA,
        help="Text of a domain, repeatable; named after the file, or its directory where files are alike.",
    ),
]
Quiet = Annotated[bool, typer.Option("--quiet", help="Show no progress.")]
Force = Annotated[bool, typer.Option("--force", help="Replace files that nvreg did not write.")]
Overrides = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="A.B=VALUE", help="Change a key of the file, repeatable.", show_default=False
    ),
]

InDomain = Annotated[
    str,
    typer.Option(
        "--in-domain",
        metavar="PATH",
        help="Text of the domain that the model was tuned on: a file, a directory, or hub:NAME.",
        show_default=False,
    ),
]
OutOfDomain = Annotated[
    list[str],
    typer.Option(
        "--out-of-domain",
        metavar="PATH [PATH]...",
        help="Text of another domain; several may follow each other.",
        show_default=False,
    ),
]
MoreDomains = Annotated[
    list[str] | None,
    typer.Argument(metavar="PATH", help="What follows the first PATH of --out-of-domain."),
]
TaskName = Annotated[
    str | None,
    typer.Option(
        "--task",
        help="What the model is to do.",
        autocompletion=names_in("nvreg.tasks:TASKS"),
        show_default="told by the model and the data",
    ),
]

SourcePrefix = Annotated[
    str | None, typer.Option("--source-prefix", help="Text before every source, for T5.")
]
SourceLanguage = Annotated[
    str | None,
    typer.Option("--source-language", help="Language of the sources, for a model of many languages."),
]
TargetLanguage = Annotated[
    str | None,
    typer.Option("--target-language", help="Language of the targets, for a model of many languages."),
]

TauAlpha = Annotated[
    str | None,
    typer.Option(metavar=BY_ROLE, help="Shift of the tokens' log pseudo-counts.", show_default="inf"),
]
TauSigma = Annotated[
    str | None,
    typer.Option(metavar=BY_ROLE, help="The tokens' standard deviation over the prior's.", show_default="0"),
]
NoiseShare = Annotated[
    str | None,
    typer.Option(
        metavar=BY_ROLE,
        help="Mean share of noise in what is seen of tokens, from which --tau-sigma is solved for.",
        show_default="0",
    ),
]
TauMu = Annotated[
    str | None,
    typer.Option(metavar=BY_ROLE, help="Weight of a token's vector in its mean.", show_default="1"),
]
PriorWeight = Annotated[
    str | None,
    typer.Option(
        metavar=BY_ROLE,
        help="Mean weight of the prior, from which --tau-alpha is solved for on a sample of --prior-data.",
        show_default="0",
    ),
]

PriorFile = Annotated[
    Path | None,
    typer.Option(
        "--prior",
        help="The prior, as nvreg prior wrote it; a converted model has its own.",
        show_default="none",
    ),
]
PriorData = Annotated[
    str | None,
    typer.Option(
        "--prior-data",
        metavar=DATA,
        help="In-domain training text, for the prior where there is none, and for --prior-weight.",
        show_default="none",
    ),
]
PriorColumn = Annotated[
    str | None,
    typer.Option("--column", help="Column of texts, sources or words in --prior-data.", show_default="none"),
]
PriorTargetColumn = Annotated[
    str | None,
    typer.Option(
        "--target-column",
        help="Column of targets in --prior-data, for an encoder-decoder model.",
        show_default="none",
    ),
]

Space = Annotated[
    Literal["inputs", "heads"] | None,
    one_of(
        "--space",
        "inputs",
        "heads",
        help="What NV attention has as vectors: what keys and values are projected from (published), "
        "or what heads compare and mix.",
        show_default="inputs",
    ),
]

Push = Annotated[
    str | None,
    typer.Option(
        "--push", metavar="REPO", help="Push OUT to this model repository of the hub too, as in user/repo."
    ),
]
Private = Annotated[bool, typer.Option("--private", help="Make the repository private, where it is new.")]


def say(text: object, *, err: bool = False) -> None:
    """Print text to standard output or, with ``err``, to standard error; controls in it are shown."""
    typer.echo(visible(str(text)), err=err)  # noqa: TID251


def check_new_directory(out: Path, *, is_replaced: bool = False) -> None:
    """Check that a directory is new or empty.

    Args:
        out: the directory.
        is_replaced: another directory takes its name once that is filled.

    Raises:
        UserError: if something is there, or the place cannot be written to.
    """
    from nvreg.files import check_place

    check_place(out)
    if os.path.lexists(out) and not (out.is_dir() and not any(out.iterdir())):
        raise UserError(f"expected a new or empty directory, got {out}, which is there already")
    if is_replaced and out.is_dir() and (out.is_symlink() or out.is_mount() or out.samefile(".")):
        raise UserError(
            f"expected a new directory, or an empty one that can be replaced, got {out}, which is a link, a "
            "mount or the working directory; name a new one in it"
        )


def check_push(repo: str | None, private: bool) -> None:
    """Check what --push and --private say, before the work.

    Raises:
        UserError: if nobody is logged in to the hub, it is out of reach, or --private has nothing to say.
    """
    if repo is not None:
        from nvreg.hub import check_push

        check_push(repo)
    elif private:
        raise UserError("expected --push REPO with --private, got none")


def push(out: Path, repo: str | None, private: bool) -> None:
    """Push a directory where --push says so, and say where to."""
    if repo is not None:
        from nvreg.hub import push

        say(f"pushed to {push(out, repo, private=private or None)}")


def asker() -> Ask | None:
    """Return what asks the user in a terminal; None where nobody would answer."""
    if not sys.stdin.isatty():
        return None

    def ask(question: str, answers: Sequence[str]) -> str:
        shown = ", ".join(answers[:20])
        while (given := typer.prompt(visible(f"{question} ({shown})"), err=True)) not in answers:
            say(expected_one_of(answers[:20], given), err=True)
        return str(given)

    return ask


def open_in_browser(page: Path, *, always: bool = False) -> None:
    """Open a page where somebody is there to look at it, or always; say where it is without a browser."""
    if always or sys.stdout.isatty():
        import webbrowser

        if not webbrowser.open(page.absolute().as_uri()):
            say(f"no browser found; the page is {page}", err=True)


def print_markdown(page: str) -> None:
    """Print a page to standard output: laid out in a terminal, as it is into a file or a pipe."""
    from rich.console import Console
    from rich.markdown import Markdown

    console = Console()
    if console.is_terminal:
        console.print(Markdown(page, hyperlinks=False))
    else:
        say(page)


def make_reading(prefix: str | None, source: str | None, target: str | None) -> Reading:
    """Return what the options say of how an encoder-decoder model reads text."""
    from nvreg.config import Reading

    return Reading(source_prefix=prefix, source_language=source, target_language=target)


def read_nv_setting(**written: str | None) -> NVSetting:
    """Return the setting that the options write, by name; one that is not given is as pretrained.

    Raises:
        UserError: if one is no number, no number by role, or out of its range, or two stand for each other.
    """
    from nvreg.methods.nv import NVSetting

    try:
        values = {
            name: read_value(f"--{name.replace('_', '-')}", text)
            for name, text in written.items()
            if text is not None
        }
        return NVSetting(**values)
    except ValueError as error:
        raise UserError(str(error)) from error
