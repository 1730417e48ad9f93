"""The border that text from data crosses on its way to a reader: it stays text, in every form of writing.

Names of experiments, domains, models and directories, and the texts themselves, may hold anything: markup of
the form that they are written in, formulas of a spreadsheet, sequences that drive a terminal, or characters
that make text look like another. Each form has one function here. HTML has none, as jinja2 escapes what a
template is given; rich is always told that what it prints is no markup.
"""

from __future__ import annotations

import os
import re

_UNSEEN = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""Controls, ends of lines and paragraphs, what overrides the direction of text, and halves of pairs."""

_SECRET = re.compile(r"\bhf_\w{8,}|(?<=Bearer )[^\s'\"]+|(?<=://)[^\s/@:]+:[^\s/@]+(?=@)")
"""Tokens of the hub, what a request is authorised by, and a user with a password in an address."""

_SECRET_NAME = re.compile("(TOKEN|SECRET|PASSWORD|PASSWD|ACCESS_KEY|API_?KEY|CREDENTIALS?)$", re.IGNORECASE)
"""How the name ends of a variable of the environment whose value is nobody's business."""

SECRET_LENGTH = 8
"""The least characters of such a value: of a shorter one, every text has some."""

DIGITS = 18
"""The most digits of a number of something that is there; Python refuses to read thousands of them."""

_MARKDOWN = re.compile(
    r"""[\\`*|~#>&$]                # whatever is beside them
    | (?<![^\W_])_ | _(?![^\W_])    # not within a word, where it is a character like any other
    | <(?=[A-Za-z/!?])              # what opens a tag, not "less than"
    | \](?=[(\[:])                  # what ends the text of a link, not an interval
    """,
    re.VERBOSE,
)

_LATEX = str.maketrans(
    {each: f"\\{each}" for each in "&%$#_{}"}
    | {
        "\\": r"\textbackslash{}",
        "`": r"\textasciigrave{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "→": r"$\to$",
    }
    | {"≤": r"$\le$", "≥": r"$\ge$"}
)

_LIGATURE = re.compile(r"([-<>,'`?!])(?=[-<>,'`])")
"""What LaTeX sets as one character together with what follows it, such as two hyphens."""

_FORMULA = tuple("=+-@\uff1d\uff0b\uff0d\uff20")
"""What a cell begins with that spreadsheets calculate, in either width; blanks before it are left out."""


def visible(text: str) -> str:
    r"""Return a text with controls and overrides of direction by number, as ``\x1b`` and ``\u202e``.

    Ends of lines and tabs stay. What joins characters of a script, as emoji need it, stays too.
    """
    return _UNSEEN.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def without_secrets(text: str) -> str:
    """Return a text without tokens, passwords in addresses, or values of variables that are called secret."""
    values = (
        value
        for name, value in os.environ.items()
        if _SECRET_NAME.search(name) and len(value) >= SECRET_LENGTH
    )
    for value in sorted(values, key=len, reverse=True):
        text = text.replace(value, "***")
    return _SECRET.sub("***", text)


def on_one_line(text: str) -> str:
    """Return a text as `visible` shows it, with one space for each run of blanks and ends of lines."""
    return visible(" ".join(text.split()))


def in_markdown(text: str) -> str:
    """Return a text on one line that markdown shows as it is, between others or in a cell of a table."""
    return _MARKDOWN.sub(r"\\\g<0>", on_one_line(text))


def code_in_markdown(text: str) -> str:
    """Return a text on one line as code in markdown, between more backticks than it has side by side."""
    line = on_one_line(text)
    fence = "`" * (1 + max(map(len, re.findall("`+", line)), default=0))
    return f"{fence}{line}{fence}" if fence == "`" else f"{fence} {line} {fence}"


def out_of_markdown(markdown: str) -> str:
    r"""Return the text that a line of markdown with nothing but escapes stands for: ``a\*b`` for ``a*b``."""
    return re.sub(r"\\([!-/:-@\[-`{-~])", r"\1", markdown)


def in_latex(text: str) -> str:
    """Return a text on one line that LaTeX sets as it is, between others or in a cell of a table."""
    line = on_one_line(text)
    guard = "{}" if line.startswith(("[", "*")) else ""  # the end of the row before would take it for its own
    return guard + _LIGATURE.sub(r"\1{}", line.translate(_LATEX))


def in_csv(text: str) -> str:
    """Return a text on one line that no spreadsheet takes for a formula: an apostrophe stands before it."""
    line = on_one_line(text)
    return f"'{line}" if line.startswith(_FORMULA) and not _is_number(line) else line


def in_figure(text: str) -> str:
    """Return a text on one line that matplotlib draws as it is, not as mathematics."""
    return on_one_line(text).replace("$", r"\$")


def whole_number(text: str) -> int | None:
    """Return the number that a text of digits writes; None for others, and those of more than `DIGITS`."""
    return int(text) if text.isdecimal() and len(text) <= DIGITS else None


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
