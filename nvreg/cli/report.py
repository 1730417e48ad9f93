"""``nvreg report``."""

from pathlib import Path
from typing import Annotated, Any

import typer

from nvreg.cli.options import Force, names_in, open_in_browser, print_markdown, say
from nvreg.errors import UserError
from nvreg.report import FORMATS

Results = Annotated[
    list[Path], typer.Argument(metavar="RESULTS...", help="Directories that nvreg sweep wrote.")
]
Protocols = Annotated[
    list[str] | None,
    typer.Option(
        "--protocol",
        help="Selection protocol, repeatable.",
        show_default="the experiment's",
        autocompletion=names_in("nvreg.protocols:PROTOCOLS"),
    ),
]


def formats_option(what: str) -> Any:
    """Return the option that lists some formats of what is written."""
    return typer.Option(
        "--format", metavar="NAME,...", help=f"{what}: {', '.join(FORMATS)}.", show_default="all"
    )


Formats = Annotated[str | None, formats_option("Formats")]
Examples = Annotated[
    int,
    typer.Option(
        "--examples",
        min=0,
        help="Show that many examples of each test set, those that the first protocol's choice changes most.",
    ),
]
Method = Annotated[
    str | None,
    typer.Option(
        "--method",
        help="The method of whose choice, with --examples.",
        show_default="the first",
        autocompletion=names_in("nvreg.methods:METHODS"),
    ),
]
Seed = Annotated[
    int | None,
    typer.Option("--seed", help="The seed of whose search, with --examples.", show_default="the first"),
]
Output = Annotated[
    Path | None,
    typer.Option(
        "--output",
        file_okay=False,
        help="Directory to write the table of several runs into.",
        show_default="none",
    ),
]

Open = Annotated[bool, typer.Option("--open", help="Open the page in a browser.")]


def report(
    results: Results,
    protocol: Protocols = None,
    formats: Formats = None,
    examples: Examples = 0,
    method: Method = None,
    seed: Seed = None,
    output: Output = None,
    force: Force = False,
    open_: Open = False,
) -> None:
    """Write tables and figures into each directory, and print the tables; of several runs the table of all.

    Works while a sweep is still running, on what is finished.

    Example:
        nvreg report results/my-translator --examples 20

        nvreg report results/a results/b --protocol in-domain-tolerance --output results/both
    """
    if not examples and (method is not None or seed is not None):
        raise UserError("expected --method and --seed only with --examples N, whose examples they choose")
    if output is not None and len(results) == 1:
        raise UserError(
            "expected several directories with --output, which gets the table of all, got one; a run's own "
            "report is written into its directory"
        )

    chosen, analyses, pages = format_names(formats), [], []
    if open_ and chosen is not None and "html" not in chosen:
        raise UserError(f"expected html among the formats with --open, got {formats}; add it to --format")

    from nvreg.progress import Progress
    from nvreg.report.analysis import analyse
    from nvreg.report.writing import write_combined, write_report
    from nvreg.results import RunFiles

    for directory in results:
        with Progress() as progress:
            progress.phase(f"reading {directory}")
            analyses.append(analyse(directory, protocol or ()))
            pages.append(write_report(analyses[-1], chosen, examples, method=method, seed=seed))
        say(f"written to {directory / 'tables'} and {directory / 'figures'}", err=True)
    if len(analyses) > 1:
        if table := write_combined(analyses, chosen, output, force=force):
            pages = [table]
        else:
            say("no table of all runs: they have no test set and metric in common", err=True)
    for page in pages:
        print_markdown(page)
    if open_:
        combined = output / "combined.html" if output is not None and len(pages) < len(results) else None
        for path in [combined] if combined else [RunFiles(directory).page for directory in results]:
            open_in_browser(path, always=True)


def format_names(written: str | None) -> list[str] | None:
    """Return the names that ``--format`` lists, None for all.

    Raises:
        UserError: if a format is unknown.
    """
    names = None if written is None else [name.strip() for name in written.split(",")]
    for name in names or ():
        FORMATS[name]  # raises where there is none
    return names
