"""A page of text and tables as markdown or LaTeX, and figures as files."""

from collections.abc import Sequence
from io import BytesIO
from typing import TYPE_CHECKING, Any, NamedTuple

from nvreg.text import in_csv, in_latex, in_markdown, out_of_markdown, visible

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame


class Table(NamedTuple):
    """The cells of a table, each a text that may say anything: no form of a page takes it for markup.

    Attributes:
        header: a text for each column.
        body: the rows.
    """

    header: Sequence[str]
    body: Sequence[Sequence[str]]


Block = str | Table
"""A paragraph, list or heading in markdown, names as `nvreg.text.in_markdown` writes them, or a table."""

Blocks = Sequence[Block]
"""A page."""


def markdown(blocks: Blocks) -> str:
    """Return the page as markdown, whose tables line up as plain text too."""
    return visible("\n\n".join(map(_markdown, blocks)) + "\n")


def latex(blocks: Blocks) -> str:
    """Return the tables alone, captioned by the headings above them."""
    tables, heading = [r"% needs \usepackage{booktabs} and \usepackage[T1]{fontenc}"], ""
    for each in blocks:
        if isinstance(each, Table):
            tables.append(_latex_table(each, heading))
        elif each.startswith("#"):
            heading = each.lstrip("# ")
    return "\n".join(tables)


def csv(frame: "DataFrame") -> str:
    """Return a table with all digits, whose texts no spreadsheet takes for formulas."""
    from pandas import Series

    texts = {
        str(name): Series(
            [in_csv(cell) if isinstance(cell, str) else cell for cell in column], frame.index, object
        )
        for name, column in frame.items()
        if any(isinstance(cell, str) for cell in column)
    }
    return frame.assign(**texts).to_csv(index=False, lineterminator="\n")


def png(figure: "Figure") -> bytes:
    """Return a figure as the content of a png file."""
    return _drawn(figure, "png")


def svg(figure: "Figure") -> str:
    """Return a figure as the content of an svg file, the same for the same figure."""
    from matplotlib import rc_context

    with rc_context({"svg.hashsalt": "nvreg", "svg.fonttype": "none"}):
        return visible(_drawn(figure, "svg", metadata={"Date": None}).decode())


def _drawn(figure: "Figure", form: str, **options: Any) -> bytes:
    content = BytesIO()
    figure.savefig(content, format=form, **options)
    return content.getvalue()


def _markdown(block: Block) -> str:
    if not isinstance(block, Table):
        return block
    header, *body = [list(map(in_markdown, row)) for row in (block.header, *block.body)]
    widths = [max(map(len, column)) for column in zip(header, *body, strict=True)]
    rows = [header, ["-" * width for width in widths], *body]
    cells = [" | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    return "\n".join(f"| {row} |" for row in cells)


def _latex_table(table: Table, caption: str) -> str:
    from pandas import DataFrame

    header, *body = [list(map(in_latex, row)) for row in (table.header, *table.body)]
    style = DataFrame(body, columns=header).style.hide(axis="index")
    return style.to_latex(hrules=True, caption=in_latex(out_of_markdown(caption)), position_float="centering")
