"""``nvreg compare``."""

from pathlib import Path
from typing import Annotated

import typer

from nvreg.cli.options import Force, print_markdown
from nvreg.cli.report import Protocols, format_names, formats_option

First = Annotated[Path, typer.Argument(metavar="A", help="Directory that nvreg sweep wrote.")]
Second = Annotated[Path, typer.Argument(metavar="B", help="Another, of a sweep on some of the same data.")]

Formats = Annotated[str | None, formats_option("Formats of --output")]
Output = Annotated[
    Path | None,
    typer.Option(
        "--output", file_okay=False, help="Directory to write the comparison into.", show_default="none"
    ),
]


def compare(
    first: First,
    second: Second,
    protocol: Protocols = None,
    formats: Formats = None,
    output: Output = None,
    force: Force = False,
) -> None:
    """Print how the scores of run B differ from those of run A on their common domains, paired by example.

    The pretrained models are compared, and what each protocol chooses in the one and in the other. With
    --output the comparison is written into a directory too, in every format.

    Example:
        nvreg compare results/plain results/guided-dropout

        nvreg compare results/a results/b --protocol in-domain-tolerance --output results/a-b
    """
    from nvreg.progress import Progress
    from nvreg.report.analysis import analyse
    from nvreg.report.writing import write_comparison

    chosen = format_names(formats)
    with Progress() as progress:
        first_run, second_run = (
            analyse(run, protocol or ()) for run in progress.over("reading", [first, second])
        )
    print_markdown(write_comparison(first_run, second_run, chosen, output, force=force))
