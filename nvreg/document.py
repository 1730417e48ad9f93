"""A page of text and tables as markdown or LaTeX, and figures as files."""

import re
from collections.abc import Sequence
from io import BytesIO
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Table(NamedTuple):
    """The cells of a table as text.

    Attributes:
        header: a text for each column.
        body: the rows.
        foreign: whether the cells may say anything, as texts of data do: markdown then shows their markup.
    """

    header: Sequence[str]
    body: Sequence[Sequence[str]]
    foreign: bool = False


Block = str | Table
"""A paragraph, list or heading in markdown, or a table."""

Blocks = Sequence[Block]
"""A page."""


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


def png(figure: "Figure") -> bytes:
    """Return a figure as the content of a png file."""
    return _drawn(figure, "png")


def svg(figure: "Figure") -> str:
    """Return a figure as the content of an svg file, the same for the same figure."""
    from matplotlib import rc_context

    with rc_context({"svg.hashsalt": "nvreg", "svg.fonttype": "none"}):
        return _drawn(figure, "svg", metadata={"Date": None}).decode()


def _drawn(figure: "Figure", form: str, **options: Any) -> bytes:
    content = BytesIO()
    figure.savefig(content, format=form, **options)
    return content.getvalue()


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
