"""From runs' directories to tables and figures; reads files alone, never a model."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, get_args

from nvreg.errors import UserError
from nvreg.files import write_bytes, write_text

if TYPE_CHECKING:
    from pandas import DataFrame

    from nvreg.report.document import Blocks
    from nvreg.report.reading import Run
    from nvreg.report.tables import Selections

FORMATS = ("markdown", "latex", "csv", "html")


class Analysis(NamedTuple):
    """A run, and what protocols choose among its trials."""

    run: "Run"
    selections: "Selections"


def analyse(directory: Path, protocols: Sequence[str] = ()) -> Analysis:
    """Read a run and repeat its selections.

    Args:
        directory: what ``nvreg sweep`` wrote, finished or not.
        protocols: selection protocols; those of the experiment where none is given.

    Raises:
        UserError: if the directory is not a run's, the pretrained model is not yet measured, or a protocol is
            unknown.
    """
    from nvreg.config.schema import Protocol
    from nvreg.report.reading import read_run
    from nvreg.report.selection import select

    _check("protocols", protocols, get_args(Protocol))
    run = read_run(directory)
    protocols = protocols or run.experiment.selection.protocols
    return Analysis(run, {arm: select(run, arm, protocols) for arm in run.sweeps})


def write_report(analysis: Analysis, formats: Sequence[str] = FORMATS, examples: int = 0) -> str:
    """Write ``tables/``, ``figures/`` and ``report.html`` into a run's directory.

    Args:
        analysis: of the run.
        formats: some of `FORMATS`.
        examples: how many examples of each test set to show, under the first protocol; those of the method
            that is named first, with its first seed.

    Returns:
        The report as markdown.

    Raises:
        UserError: if a format is unknown, or the examples cannot be read.
    """
    from nvreg.report.document import html, markdown
    from nvreg.report.examples import examples_section
    from nvreg.report.figures import changes_figure, png, svg
    from nvreg.report.page import run_page
    from nvreg.report.tables import methods_table, scores_table, settings_table

    run, selections = analysis
    frames = {"scores": scores_table(run, selections)}
    if len(selections) > 1:
        frames["methods"] = methods_table(run, selections)
    blocks = run_page(run, frames.get("methods", frames["scores"]), settings_table(run, selections))
    if examples:
        protocol, selection = next(iter(next(iter(selections.values())).items()))
        blocks += examples_section(run, protocol, selection, examples)
    write_tables(run.directory / "tables", "report", blocks, frames, formats)
    drawings = {}
    for method in run.methods:
        figure = changes_figure(run, method, selections)
        name = "changes" if len(run.methods) == 1 else f"changes-{method}"
        (run.directory / "figures").mkdir(exist_ok=True)
        write_bytes(run.directory / "figures" / f"{name}.png", png(figure))
        drawings[method] = svg(figure)
        write_text(run.directory / "figures" / f"{name}.svg", drawings[method])
    if "html" in formats:
        write_text(run.directory / "report.html", html(blocks, run.experiment.name, list(drawings.values())))
    return markdown(blocks)


def write_tables(
    folder: Path, name: str, blocks: "Blocks", frames: "Mapping[str, DataFrame]", formats: Sequence[str]
) -> None:
    """Write a page as markdown and LaTeX, and frames as csv, as far as the formats ask for it.

    Raises:
        UserError: if a format is unknown.
    """
    from nvreg.report.document import latex, markdown

    _check("formats", formats, FORMATS)
    folder.mkdir(parents=True, exist_ok=True)
    if "markdown" in formats:
        write_text(folder / f"{name}.md", markdown(blocks))
    if "latex" in formats:
        write_text(folder / f"{name}.tex", latex(blocks))
    if "csv" in formats:
        for each, frame in frames.items():
            write_text(folder / f"{each}.csv", frame.to_csv(index=False))


def _check(what: str, given: Sequence[str], known: Sequence[str]) -> None:
    unknown = [name for name in given if name not in known]
    if unknown:
        raise UserError(f"expected {what} among {', '.join(known)}, received {', '.join(unknown)}")
