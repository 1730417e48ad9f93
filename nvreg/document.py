"""A page of text, tables and drawings as markdown or LaTeX, and figures as files."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from io import BytesIO
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from nvreg.text import in_csv, in_latex, in_markdown, out_of_markdown, visible

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

Tone = Literal["", "better", "worse"]

SIGNS: dict[Tone, str] = {"": "", "better": "✓", "worse": "✗"}
"""What stands behind a number that is better or worse, so that no reader needs the colour."""


class Cell(NamedTuple):
    """A number in a table, with what it is compared with.

    Attributes:
        text: the number.
        change: its difference from another, or a word for that.
        interval: the interval of the difference, in its brackets.
        tone: whether the difference is known to be better or worse.
        facts: sentences that unfold where a form can; the others leave them out.
        value: what a column is sorted by; NaN sorts last.
    """

    text: str
    change: str = ""
    interval: str = ""
    tone: Tone = ""
    facts: Sequence[str] = ()
    value: float = math.nan

    def __str__(self) -> str:
        """Return the cell in a line."""
        behind = " ".join(filter(None, (self.change, self.interval)))
        line = f"{self.text} ({behind})" if self.change else f"{self.text} {behind}"
        return f"{line.strip()} {SIGNS[self.tone]}".strip()


class Marked(NamedTuple):
    """A text of which some parts are marked.

    Attributes:
        parts: words, one or several, between spaces, and whether they are marked.
    """

    parts: Sequence[tuple[str, bool]]

    def __str__(self) -> str:
        """Return the text without marks."""
        return " ".join(text for text, _ in self.parts)


Row = Sequence[str | Cell | Marked]
"""The cells of a row of a table."""


class Table(NamedTuple):
    """The cells of a table, each of which may say anything: no form of a page takes it for markup.

    Attributes:
        header: a text for each column.
        body: the rows.
        labels: how many columns, from the first, say what a row is.
    """

    header: Sequence[str]
    body: Sequence[Row]
    labels: int = 1


class PageSection(NamedTuple):
    """A part of a page that a reader may fold away.

    Attributes:
        title: plain text.
        blocks: what stands in it.
        is_open: whether it is unfolded at first.
        is_aside: whether it is a part of the one around it, whose title only a form that folds shows.
    """

    title: str
    blocks: Sequence[Block]
    is_open: bool = True
    is_aside: bool = False


class Verdict(NamedTuple):
    """What a page comes to, in a few sentences of plain text."""

    sentences: Sequence[str]


class Drawing(NamedTuple):
    """A figure in HTML, which other forms leave out: they have figures as files.

    Attributes:
        html: safe markup, in which all text from data is escaped.
    """

    html: str


Block = str | Table | PageSection | Verdict | Drawing
"""Text in markdown, which has names as `nvreg.text.in_markdown` writes them, or one of the above."""

Blocks = Sequence[Block]
"""A page."""


def markdown(blocks: Blocks) -> str:
    """Return the page as markdown, whose tables line up as plain text too."""
    return visible("\n\n".join(_markdown(blocks)) + "\n")


def latex(blocks: Blocks) -> str:
    """Return the verdict, and the tables captioned by the headings above them.

    A table is as wide as its column of a paper at most, or as the text where it has many columns; one that is
    higher than a page goes on in another.
    """
    tables = [LATEX_PREAMBLE, *_latex(blocks, "")]
    return visible("\n".join(tables) + "\n")


def csv(frame: DataFrame) -> str:
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


def png(figure: Figure) -> bytes:
    """Return a figure as the content of a png file."""
    return _drawn(figure, "png")


def svg(figure: Figure) -> str:
    """Return a figure as the content of an svg file, the same for the same figure; its text is text."""
    from matplotlib import rc_context

    with rc_context({"svg.hashsalt": "nvreg", "svg.fonttype": "none"}):
        return visible(_drawn(figure, "svg", metadata={"Date": None}).decode())


def pdf(figure: Figure) -> bytes:
    """Return a figure as the content of a pdf file, the same for the same figure; its text is text."""
    from matplotlib import rc_context

    with rc_context({"pdf.fonttype": 42}):
        return _drawn(figure, "pdf", metadata={"CreationDate": None})


def _drawn(figure: Figure, form: str, **options: Any) -> bytes:
    content = BytesIO()
    figure.savefig(content, format=form, **options)
    return content.getvalue()


def _markdown(blocks: Blocks, level: int = 2) -> Iterator[str]:
    for block in blocks:
        match block:
            case Table():
                yield _markdown_table(block)
            case PageSection():
                found = list(_markdown(block.blocks, level + (not block.is_aside)))
                if found and not block.is_aside:
                    yield f"{'#' * level} {in_markdown(block.title)}"
                yield from found
            case Verdict():
                yield "**Verdict.** " + " ".join(map(in_markdown, block.sentences))
            case str():
                yield block


def _markdown_table(table: Table) -> str:
    header, *body = [list(map(_cell_in_markdown, row)) for row in (table.header, *table.body)]
    widths = [max(map(len, column)) for column in zip(header, *body, strict=True)]
    rows = [header, ["-" * width for width in widths], *body]
    cells = [" | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    return "\n".join(f"| {row} |" for row in cells)


def _cell_in_markdown(cell: str | Cell | Marked) -> str:
    if not isinstance(cell, Marked):
        return in_markdown(str(cell))
    return " ".join(
        f"**{in_markdown(text)}**" if marked else in_markdown(text) for text, marked in cell.parts
    )


def _latex(blocks: Blocks, caption: str) -> Iterator[str]:
    for block in blocks:
        match block:
            case Table():
                yield _latex_table(block, caption)
            case PageSection():
                yield from _latex(block.blocks, caption if block.is_aside else in_latex(block.title))
            case Verdict():
                yield rf"\paragraph{{Verdict}} {' '.join(map(in_latex, block.sentences))}" + "\n"
            case str() if block.startswith("#"):
                caption = in_latex(out_of_markdown(block.lstrip("# ")))


LATEX_PREAMBLE = r"""% needs \usepackage{booktabs}, \usepackage{graphicx} and \usepackage[T1]{fontenc};
% names in scripts that pdflatex does not know need lualatex"""

NARROW = 4
"""The most columns of a table that stands in one column of a paper; wider ones go across."""

LONG_TEXT = 40
"""Characters of a text from which on it is broken into lines."""

HIGHEST = 27
"""The most rows that fit on a page, each two lines high."""


def _latex_table(table: Table, caption: str) -> str:
    r"""Return a table of ``booktabs``, with intervals in lines of their own.

    What is better is bold, what is worse in italics. A label that the row above has too is left out.
    """
    kind = "table" if len(table.header) <= NARROW else "table*"
    has_intervals = any(isinstance(cell, Cell) and cell.interval for row in table.body for cell in row)
    said = (
        rf"{caption}. Small: the difference, and below it its 95\% interval; bold: better, italic: worse."
        if has_intervals
        else caption
    )
    lines, parts = [], _pages(table)
    for number, rows in enumerate(parts):
        lines += [
            rf"\begin{{{kind}}}",
            r"\centering\footnotesize\setlength{\tabcolsep}{3pt}",
            rf"\caption{{{said if number == 0 else f'{caption}, continued'}}}",
            r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%",
            rf"\begin{{tabular}}{{{_latex_columns(table)}}}",
            r"\toprule",
            rf"{' & '.join(map(_latex_header, table.header))} \\",
            r"\midrule",
            *_latex_rows(rows, table.labels),
            r"\bottomrule",
            r"\end{tabular}}",
            rf"\end{{{kind}}}",
        ]
    return "\n".join(lines)


def _pages(table: Table) -> list[Sequence[Row]]:
    """Return the rows of each page, divided where the first label changes if that is possible."""
    pages: list[Sequence[Row]] = []
    rest = list(table.body)
    while len(rest) > HIGHEST:
        changes = [at for at in range(1, HIGHEST + 1) if str(rest[at][0]) != str(rest[at - 1][0])]
        end = changes[-1] if table.labels > 1 and changes and 2 * changes[-1] > HIGHEST else HIGHEST
        pages.append(rest[:end])
        rest = rest[end:]
    return [*pages, rest]


def _latex_columns(table: Table) -> str:
    """Return how columns are set: labels and texts to the left, long texts in lines, numbers to the right."""
    columns = list(zip(*table.body, strict=True)) or [()] * len(table.header)
    are_long = [
        any(len(str(cell)) > LONG_TEXT for cell in column if not isinstance(cell, Cell)) for column in columns
    ]
    width = f"{0.8 / max(1, sum(are_long)):.2f}"
    return "".join(
        rf"p{{{width}\linewidth}}"
        if is_long
        else "r"
        if any(isinstance(cell, Cell) for cell in column)
        else "l"
        for column, is_long in zip(columns, are_long, strict=True)
    )


LATEX_TONES: dict[Tone, str] = {"": "{}", "better": r"\textbf{{{}}}", "worse": r"\textit{{{}}}"}


def _latex_rows(rows: Sequence[Row], labels: int) -> Iterator[str]:
    above: Row = ()
    for row in rows:
        is_alike = labels > 1 and bool(above) and str(row[0]) == str(above[0])
        if labels > 1 and above and not is_alike:
            yield r"\addlinespace"
        yield _latex_row(["", *row[1:]] if is_alike else row)
        above = row


def _latex_row(row: Row) -> str:
    cells, below = [], []
    for cell in row:
        if isinstance(cell, Cell):
            tone = LATEX_TONES[cell.tone]
            change = rf" {{\scriptsize {tone.format(_latex_number(cell.change))}}}" if cell.change else ""
            cells.append(tone.format(_latex_number(cell.text)) + change)
            interval = tone.format(_latex_number(cell.interval))
            below.append(rf"{{\scriptsize {interval}}}" if cell.interval else "")
        else:
            cells.append(in_latex(str(cell)))
            below.append("")
    lines = [f"{' & '.join(each)} \\\\" for each in (cells, below) if any(each)]
    return "\n".join(lines) + (r"[2pt]" if len(lines) > 1 else "")


def _latex_header(name: str) -> str:
    """Return the name of a column; what stands behind it in parentheses has a line of its own."""
    text, _, behind = name.partition(" (")
    return rf"\shortstack{{{in_latex(text)}\\({in_latex(behind)}}}" if behind else in_latex(name)


def _latex_number(text: str) -> str:
    """Return a number in LaTeX, whose minus is one and no hyphen."""
    return re.sub(r"(?<![\w$])-(?=[\d.])", "$-$", in_latex(text))
