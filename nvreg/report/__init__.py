"""From a run's directory to tables and figures; reads files alone, never a model."""

from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from nvreg.errors import UserError
from nvreg.files import write_bytes, write_text

FORMATS = ("markdown", "csv")


def write_report(directory: Path, protocols: Sequence[str] = (), formats: Sequence[str] = FORMATS) -> str:
    """Write ``tables/`` and ``figures/`` into a run's directory and return the report as markdown.

    Args:
        directory: what ``nvreg sweep`` wrote, finished or not.
        protocols: selection protocols; those of the experiment where none is given.
        formats: of the tables: markdown, csv.

    Raises:
        UserError: if the directory is not a run's, the pretrained model is not yet measured, or a protocol
            or format is unknown.
    """
    from nvreg.config.schema import Protocol
    from nvreg.report.figures import changes_figure, png
    from nvreg.report.markdown import page
    from nvreg.report.reading import read_run
    from nvreg.report.selection import select
    from nvreg.report.tables import scores_table, settings_table

    _check("protocols", protocols, get_args(Protocol))
    _check("formats", formats, FORMATS)
    run = read_run(directory)
    choices = select(run, protocols or run.experiment.selection.protocols)
    scores = scores_table(run, choices)
    text = page(run, scores, settings_table(run, choices))
    tables, figures = directory / "tables", directory / "figures"
    for folder in (tables, figures):
        folder.mkdir(exist_ok=True)
    if "markdown" in formats:
        write_text(tables / "report.md", text)
    if "csv" in formats:
        write_text(tables / "scores.csv", scores.to_csv(index=False))
    write_bytes(figures / "changes.png", png(changes_figure(run, choices)))
    return text


def _check(what: str, given: Sequence[str], known: Sequence[str]) -> None:
    unknown = [name for name in given if name not in known]
    if unknown:
        raise UserError(f"expected {what} among {', '.join(known)}, received {', '.join(unknown)}")
