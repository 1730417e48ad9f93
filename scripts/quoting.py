"""Text between markers that is quoted from committed reports, and what is read from their pages."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from nvreg.errors import UserError

MARKED = re.compile(r"(?P<begin><!-- results: (?P<name>.+?) -->\n).*?(?P<end><!-- end -->)", re.DOTALL)
"""A marker ``<!-- results: NAME -->``, what stands after it, and ``<!-- end -->``."""

CHOICE = "leave-one-domain-out"
"""The selection that is quoted where one is."""

Quote = Callable[[Path], str]
"""Makes what stands between markers from the directory of all results."""


def filled(text: str, quotes: Mapping[str, Quote], results: Path) -> str:
    """Return a text in which all that stands between markers is quoted anew.

    Raises:
        UserError: if a marker names no quote, or a report is missing or has not what is quoted.
    """

    def quote(marked: re.Match[str]) -> str:
        if (name := marked["name"]) not in quotes:
            raise UserError(f"expected one of the quotes {', '.join(quotes)}, got {name!r}: mend the marker")
        return f"{marked['begin']}{quotes[name](results)}\n{marked['end']}"

    return MARKED.sub(quote, text)


def read(path: Path) -> str:
    """Return a page.

    Raises:
        UserError: if there is none.
    """
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(f"expected a report {path}, got {error.strerror}: make results writes it") from error


def progress(page: str) -> str:
    """Return the line that says how many settings were tried.

    Raises:
        UserError: if there is none.
    """
    for block in page.split("\n\n"):
        if "settings completed" in block:
            return block
    raise UserError(
        "expected a report that says how many settings were tried, got another: make results writes it"
    )


def selection_metric(page: str) -> str:
    """Return the metric that settings were chosen by."""
    return progress(page).partition("chosen on ")[2].partition(";")[0]


def section(page: str, name: str) -> list[str]:
    """Return the lines under the heading that begins so, up to the next of any level.

    Raises:
        UserError: if there is none.
    """
    _, heading, after = f"\n{page}".partition(f"\n## {name}")
    if not heading:
        raise UserError(f"expected a report with a section {name!r}, got another: make results writes it")
    return re.split(r"\n#+ ", after)[0].splitlines()[1:]


def bullets(lines: Sequence[str]) -> list[str]:
    """Return the lines that are items of a list."""
    return [line for line in lines if line.startswith("- ")]


def table(lines: Sequence[str]) -> list[list[str]]:
    """Return header and rows of the table of a section, as cells."""
    header, _, *rows = ([cell.strip() for cell in line[1:-1].split("|")] for line in lines if line[:1] == "|")
    return [header, *rows]


def laid_out(rows: Sequence[Sequence[str]]) -> str:
    """Return a table as markdown; its first row is the header."""
    header, *body = rows
    return "\n".join(f"| {' | '.join(row)} |" for row in (header, ["---"] * len(header), *body))
