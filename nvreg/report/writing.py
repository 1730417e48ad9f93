"""Reports as files: a run's, that of several runs, and that of two against each other, in every format."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from pandas import DataFrame

from nvreg.document import Blocks, csv, latex, markdown, pdf, png, svg
from nvreg.files import claim, write_bytes, write_text
from nvreg.methods import METHODS
from nvreg.metrics import METRICS
from nvreg.report import FORMATS
from nvreg.report.analysis import Analysis
from nvreg.report.comparison import combine, compare
from nvreg.report.examples import examples_section
from nvreg.report.explore import explore
from nvreg.report.figures import changes_figure, forest_figure, layers_figure, overview_figure
from nvreg.report.layers import layers_table
from nvreg.report.page import run_page
from nvreg.report.points import Cloud
from nvreg.report.provenance import test_examples
from nvreg.report.reading import Run
from nvreg.report.sections import AFTER_TEMPERATURE
from nvreg.report.selection import find_arm
from nvreg.report.tables import (
    after_temperature,
    methods_table,
    rivals_table,
    scores_table,
    settings_table,
    tempered_table,
)
from nvreg.report.webpage import html
from nvreg.results import RunFiles
from nvreg.text import visible

if TYPE_CHECKING:
    from matplotlib.figure import Figure


DRAWN = (".svg", ".png", ".pdf")
"""The ends of the names of a figure's files."""


@dataclass(frozen=True)
class Page:
    """A report before it has a format.

    Attributes:
        name: what its files are called.
        title: a line for the reader.
        blocks: text and tables.
        frames: the tables with all digits, by name.
        figures: drawings, by name.
    """

    name: str
    title: str
    blocks: Blocks
    frames: Mapping[str, DataFrame]
    figures: Mapping[str, "Figure"] = field(default_factory=dict)


@dataclass(frozen=True)
class Format:
    """A form in which a report is written.

    Attributes:
        files: returns the contents of a page's files by their names.
        of_tables: whether a run has its files in ``tables/``, and not beside it.
    """

    files: Callable[[Page], Mapping[str, str]]
    of_tables: bool = True


MARKDOWN = Format(lambda page: {f"{page.name}.md": markdown(page.blocks)})
LATEX = Format(lambda page: {f"{page.name}.tex": latex(page.blocks)})
CSV = Format(lambda page: {f"{name}.csv": csv(frame) for name, frame in page.frames.items()})
HTML = Format(lambda page: {f"{page.name}.html": html(page.title, page.blocks)}, of_tables=False)


def write_report(
    analysis: Analysis,
    formats: Sequence[str] | None = None,
    examples: int = 0,
    *,
    method: str | None = None,
    seed: int | None = None,
) -> str:
    """Write ``tables/``, ``figures/`` and ``report.html`` into a run's directory.

    Args:
        analysis: the run's.
        formats: some of `nvreg.report.FORMATS`; by default all. With none, nothing is written.
        examples: how many examples of each test set to show, under the first protocol.
        method: whose examples; by default the experiment's first.
        seed: the seed of whose search; by default the first.

    Returns:
        The report as markdown.

    Raises:
        UserError: if a format, method or seed is unknown, or the examples cannot be read.
    """
    chosen = _chosen(formats)
    run, choices = analysis.run, analysis.choices
    frames = run_tables(analysis)
    more = [section] if (section := explore(Cloud.of_run(analysis))) else []
    if examples:
        arm = find_arm(run, method, seed, first=True)
        protocol, choice = next(iter(choices[arm].items()))
        more.append(examples_section(run, f"{run.label(arm)}, {protocol}", choice, examples))
    blocks = run_page(run, frames, settings_table(analysis), more)
    scores = frames.get("methods", frames["scores"])
    completed = {arm.method for arm in run.sweeps if len(run.candidates(arm)) > 1}
    figures = {
        _of("changes", name, run): changes_figure(analysis, name) for name in run.methods if name in completed
    }
    if any(choices.values()):
        figures["forest"] = forest_figure(run.selection_metric, scores, run.in_domain, test_examples(run))
    if "layers" in frames:
        of_methods = frames["layers"].groupby("method", sort=False)
        figures |= {_of("layers", str(name), run): layers_figure(run, rows) for name, rows in of_methods}
    page, files = Page("report", run.experiment.name, blocks, frames, figures), RunFiles(run.directory)
    for each in chosen:
        _write(page, each, files.tables if each.of_tables else run.directory)
    if chosen:
        _delete_earlier(page, files.figures)
        _draw(page, files.figures)
    return markdown(blocks)


def run_tables(analysis: Analysis) -> dict[str, DataFrame]:
    """Return the tables of a run by name: ``scores``, and where there are such the others.

    ``methods`` is of a run of several methods or seeds, ``rivals`` of one that tried NV and something else,
    ``after-temperature`` and ``rivals-after-temperature`` of one that kept temperatures (see
    `nvreg.report.tables`), ``layers`` of one that tried roles and layers by themselves.

    Raises:
        UserError: if an example file of a chosen trial cannot be read.
    """
    run, plain = analysis.run, {"": [analysis]}
    tempered = after_temperature(plain)
    tables = {
        "scores": scores_table(analysis),
        "methods": methods_table(analysis) if len(analysis.choices) > 1 else None,
        "rivals": rivals_table(run.selection_metric, run.domains, plain),
        AFTER_TEMPERATURE.strip("-"): tempered_table(run.metrics, run.domains, tempered),
        f"rivals{AFTER_TEMPERATURE}": rivals_table(run.selection_metric, run.domains, tempered),
        "layers": layers_table(run),
    }
    return {
        name: table.drop(columns="run", errors="ignore")
        for name, table in tables.items()
        if table is not None
    }


def write_combined(
    analyses: Sequence[Analysis],
    formats: Sequence[str] | None = None,
    output: Path | None = None,
    *,
    force: bool = False,
) -> str | None:
    """Put several runs on one page, where they share data, and write it into a directory if one is given.

    Returns:
        The page as markdown, or None where the runs share no test set.

    Raises:
        UserError: if a format is unknown, or the directory holds what nvreg did not write and ``force`` does
            not replace it.
    """
    chosen = _chosen(formats)
    if not (found := combine(analyses)):
        return None
    blocks, frames = found
    if output:
        run, table = analyses[0].run, frames["combined"]
        chosen_by = run.selection_metric
        metric = chosen_by if chosen_by in table["metric"].array else table["metric"].iloc[0]
        figures = {"overview": overview_figure(table, metric, run.in_domain)}
        if METRICS[metric].higher_is_better is not None:
            figures["forest"] = forest_figure(metric, table, run.in_domain, test_examples(run))
        page = Page("combined", f"{len(analyses)} runs", blocks, frames, figures)
        _write_apart(page, chosen, output, force)
    return markdown(blocks)


def write_comparison(
    first: Analysis,
    second: Analysis,
    formats: Sequence[str] | None = None,
    output: Path | None = None,
    *,
    force: bool = False,
) -> str:
    """Compare a run with another, example by example, and write that into a directory if one is given.

    Returns:
        The comparison as markdown.

    Raises:
        UserError: if the runs did not score the same data, a format is unknown, or the directory holds what
            nvreg did not write and ``force`` does not replace it.
    """
    chosen = _chosen(formats)
    blocks, frames = compare(first, second)
    if output:
        _write_apart(Page("comparison", "comparison", blocks, frames), chosen, output, force)
    return markdown(blocks)


def _of(figure: str, method: str, run: Run) -> str:
    """Return what a figure of a method is called in a run."""
    return figure if len(run.methods) == 1 else f"{figure}-{method}"


def _chosen(formats: Sequence[str] | None) -> list[Format]:
    return [FORMATS[name] for name in (FORMATS if formats is None else formats)]


def _write_apart(page: Page, formats: Sequence[Format], folder: Path, force: bool) -> None:
    """Write a page of several runs, with its figures, into a directory of its own."""
    texts = [name for each in formats for name in each.files(page)]
    drawings = [f"{name}{end}" for name in page.figures for end in DRAWN]
    claim(folder, [*texts, *drawings], force=force)
    for each in formats:
        _write(page, each, folder)
    if page.figures:
        _draw(page, folder)


def _write(page: Page, form: Format, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in form.files(page).items():
        write_text(folder / name, visible(content))


def _delete_earlier(page: Page, folder: Path) -> None:
    """Delete the figures of a run's earlier report that this one does not draw, and no other files."""
    of_methods = ["", *(f"-{name}" for name in METHODS)]
    names = {"forest", *(f"{kind}{each}" for kind in ("changes", "layers") for each in of_methods)}
    for path in (folder / f"{name}{end}" for name in names - page.figures.keys() for end in DRAWN):
        if path.is_file():
            path.unlink()


def _draw(page: Page, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, figure in page.figures.items():
        figure.draw_without_rendering()
        figure.set_layout_engine("none")  # all forms have the layout that was found once
        write_text(folder / f"{name}.svg", svg(figure))
        write_bytes(folder / f"{name}.png", png(figure))
        write_bytes(folder / f"{name}.pdf", pdf(figure))
