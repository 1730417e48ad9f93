"""A page of text and tables, as markdown, LaTeX or HTML."""

import re
from collections.abc import Sequence
from importlib import resources
from typing import NamedTuple


class Table(NamedTuple):
    """Cells of a table as text, ``foreign`` if anyone wrote it: markdown is to show it as it is."""

    header: Sequence[str]
    body: Sequence[Sequence[str]]
    foreign: bool = False


Blocks = Sequence[str | Table]
"""Paragraphs, lists and headings in markdown, and tables."""


def markdown(blocks: Blocks) -> str:
    """Return the page as markdown, whose tables line up as plain text too."""
    return "\n\n".join(_markdown_table(each) if isinstance(each, Table) else each for each in blocks) + "\n"


def latex(blocks: Blocks) -> str:
    """Return the tables alone, captioned by the headings above them."""
    tables, heading = [r"% needs \usepackage{booktabs} and \usepackage[T1]{fontenc}"], ""
    for each in blocks:
        if isinstance(each, Table):
            tables.append(_latex_table(each, heading))
        elif each.startswith("#"):
            heading = each.lstrip("# ")
    return "\n".join(tables)


def html(blocks: Blocks, title: str, figures: Sequence[str] = ()) -> str:
    """Return the page as one file that needs no other.

    Args:
        blocks: the page.
        title: of the file.
        figures: svg. They are drawings and not interactive: the scripts for that are megabytes in each
            report, or fetched from elsewhere whenever it is read.
    """
    from jinja2 import Environment
    from markdown_it import MarkdownIt

    template = resources.files("nvreg.report").joinpath("report.html").read_text(encoding="utf-8")
    body = MarkdownIt("commonmark", {"html": False}).enable("table").render(markdown(blocks))
    drawings = [figure[figure.index("<svg") :] for figure in figures]
    return Environment(autoescape=True).from_string(template).render(title=title, body=body, figures=drawings)


def _markdown_table(table: Table) -> str:
    body = [[_escaped(cell) for cell in row] for row in table.body] if table.foreign else table.body
    widths = [max(map(len, column)) for column in zip(table.header, *body, strict=True)]
    rows = [table.header, ["-" * width for width in widths], *body]
    cells = [" | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    return "\n".join(f"| {row} |" for row in cells)


def _escaped(cell: str) -> str:
    return re.sub(r"([\\|`*_\[\]<>&#~])", r"\\\1", cell)


def _latex_table(table: Table, caption: str) -> str:
    from pandas import DataFrame

    style = DataFrame([list(row) for row in table.body], columns=list(table.header)).style
    escaped = style.hide(axis="index").format(escape="latex").format_index(escape="latex", axis="columns")
    caption = re.sub(r"([&%$#_{}])", r"\\\1", caption)
    text = escaped.to_latex(hrules=True, caption=caption, position_float="centering")
    return text.replace("→", r"$\to$")
