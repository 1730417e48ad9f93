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
Formats = Annotated[str, typer.Option("--format", help="Some of markdown, latex, csv, html.")]
Examples = Annotated[
    int,
    typer.Option(
        "--examples", min=0, help="Show that many examples of each test set, those that change most."
    ),
]


def report(
    results: Results,
    protocol: Protocols = None,
    formats: Formats = "markdown,latex,csv,html",
    examples: Examples = 0,
) -> None:
    """Write tables and figures into each directory, and print the tables.

    Works while the sweep is still running, on what is finished.
    """
    from nvreg.report import analyse, write_report

    for directory in results:
        analysis = analyse(directory, protocol or ())
        print_markdown(write_report(analysis, formats.split(","), examples))
        typer.echo(f"written to {directory / 'tables'} and {directory / 'figures'}", err=True)
