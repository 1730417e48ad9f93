"""``nvreg report``."""

from pathlib import Path
from typing import Annotated

import typer

from nvreg.cli.output import print_markdown

Results = Annotated[
    list[Path], typer.Argument(metavar="RESULTS...", help="Directories that nvreg sweep wrote.")
]
Protocols = Annotated[
    list[str] | None,
    typer.Option(
        "--protocol", help="Selection protocol, repeatable.", show_default="those of the experiment"
    ),
]
Formats = Annotated[str, typer.Option("--format", help="Formats of the tables: markdown, csv.")]


def report(results: Results, protocol: Protocols = None, formats: Formats = "markdown,csv") -> None:
    """Write tables and figures into each directory, and print the tables.

    Works while the sweep is still running, on what is finished.
    """
    from nvreg.report import write_report

    for directory in results:
        print_markdown(write_report(directory, protocol or (), formats.split(",")))
        typer.echo(f"written to {directory / 'tables'} and {directory / 'figures'}", err=True)
