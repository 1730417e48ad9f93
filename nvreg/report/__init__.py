"""From runs' directories to tables and figures; reads files alone, never a model."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from nvreg.errors import UserError
from nvreg.files import write_bytes, write_text

if TYPE_CHECKING:
    from pandas import DataFrame

    from nvreg.document import Blocks
    from nvreg.report.reading import Run
    from nvreg.report.tables import Selections

FORMATS = ("markdown", "latex", "csv", "html")


class Analysis(NamedTuple):
    """A run, and what protocols choose among its trials, with what matches it (`nvreg.report.matching`)."""

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
    from nvreg.protocols import PROTOCOLS
    from nvreg.report.matching import match
    from nvreg.report.reading import read_run
    from nvreg.report.selection import select

    for protocol in protocols:
        PROTOCOLS[protocol]
    run = read_run(directory)
    protocols = protocols or run.experiment.selection.protocols
    selections = {arm: select(run, arm, protocols) for arm in run.sweeps}
    return Analysis(run, selections | match(run, selections))


def write_report(
    analysis: Analysis,
    formats: Sequence[str] = FORMATS,
    examples: int = 0,
    *,
    method: str | None = None,
    seed: int | None = None,
) -> str:
    """Write ``tables/``, ``figures/`` and ``report.html`` into a run's directory.

    Args:
        analysis: of the run.
        formats: some of `FORMATS`.
        examples: how many examples of each test set to show, under the first protocol.
        method: whose examples; by default the experiment's first.
        seed: of which search of it; by default the first.

    Returns:
        The report as markdown.

    Raises:
        UserError: if a format, method or seed is unknown, or the examples cannot be read.
    """
    from nvreg.document import html
    from nvreg.report.choice import find_arm
    from nvreg.report.examples import examples_section
    from nvreg.report.figures import changes_figure, png, svg
    from nvreg.report.page import run_page
    from nvreg.report.rivals import rivals_table
    from nvreg.report.tables import methods_table, scores_table, settings_table

    _check("formats", formats, FORMATS)
    run, selections = analysis
    frames = {"scores": scores_table(run, selections)}
    if len(selections) > 1:
        frames["methods"] = methods_table(run, selections)
    rivals = rivals_table(run.selection_metric, run.domains, {"": [analysis]})
    if rivals is not None:
        frames["rivals"] = rivals.drop(columns="run")
    shown = frames.get("methods", frames["scores"])
    blocks = run_page(run, shown, settings_table(run, selections), frames.get("rivals"))
    if examples:
        arm = find_arm(run, method, seed, first=True)
        protocol, selection = next(iter(selections[arm].items()))
        of_seed = f", seed {arm.seed}" if len({each.seed for each in run.sweeps}) > 1 else ""
        blocks += examples_section(run, f"{arm.method}{of_seed}, {protocol}", selection, examples)
    page = _write(
        run.directory / "tables", "report", blocks, frames, [each for each in formats if each != "html"]
    )
    figures = run.directory / "figures"
    figures.mkdir(exist_ok=True)
    drawings = []
    for method in run.methods:
        figure = changes_figure(run, method, selections)
        name = "changes" if len(run.methods) == 1 else f"changes-{method}"
        drawings.append(svg(figure))
        write_text(figures / f"{name}.svg", drawings[-1])
        write_bytes(figures / f"{name}.png", png(figure))
    if "html" in formats:
        write_text(run.directory / "report.html", html(blocks, run.experiment.name, drawings))
    return page


def write_combined(
    analyses: Sequence[Analysis], formats: Sequence[str] = FORMATS, output: Path | None = None
) -> str | None:
    """Put several runs on one page, where they share data, and write it into a directory if one is given.

    Returns:
        The page as markdown, or None where the runs share no test set.

    Raises:
        UserError: if a format is unknown.
    """
    from nvreg.report.combined import combined
    from nvreg.report.figures import png, svg
    from nvreg.report.overview import overview_figure

    _check("formats", formats, FORMATS)
    if not (found := combined(analyses)):
        return None
    page = _write(output, "combined", *found, formats)
    if output:
        run, table = analyses[0].run, found[1]["combined"]
        chosen_by = run.selection_metric
        metric = chosen_by if chosen_by in table["metric"].array else table["metric"].iloc[0]
        figure = overview_figure(table, metric, run.in_domain)
        write_text(output / "overview.svg", svg(figure))
        write_bytes(output / "overview.png", png(figure))
    return page


def write_comparison(
    first: Analysis, second: Analysis, formats: Sequence[str] = FORMATS, output: Path | None = None
) -> str:
    """Compare a run with another, example by example, and write that into a directory if one is given.

    Returns:
        The comparison as markdown.

    Raises:
        UserError: if the runs did not score the same data, or a format is unknown.
    """
    from nvreg.report.comparison import compare

    _check("formats", formats, FORMATS)
    return _write(output, "comparison", *compare(first, second), formats)


def _write(
    folder: Path | None,
    name: str,
    blocks: "Blocks",
    frames: Mapping[str, "DataFrame"],
    formats: Sequence[str],
) -> str:
    """Write a page and the frames it shows, as far as the formats ask for them, and return it as markdown."""
    from nvreg.document import html, latex, markdown

    page = markdown(blocks)
    if folder is None:
        return page
    folder.mkdir(parents=True, exist_ok=True)
    if "markdown" in formats:
        write_text(folder / f"{name}.md", page)
    if "latex" in formats:
        write_text(folder / f"{name}.tex", latex(blocks))
    if "html" in formats:
        write_text(folder / f"{name}.html", html(blocks, name))
    if "csv" in formats:
        for each, frame in frames.items():
            write_text(folder / f"{each}.csv", frame.to_csv(index=False))
    return page


def _check(what: str, given: Sequence[str], known: Sequence[str]) -> None:
    unknown = [name for name in given if name not in known]
    if unknown:
        raise UserError(f"expected {what} among {', '.join(known)}, got {', '.join(unknown)}")
