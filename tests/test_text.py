"""What crosses the border stays text in every form."""

import csv
import html
import io
import re
import sys
import unicodedata
from html.parser import HTMLParser

import pandas as pd
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from matplotlib.figure import Figure

from nvreg import document
from nvreg.document import Table
from nvreg.text import (
    code_in_markdown,
    in_csv,
    in_figure,
    in_latex,
    in_markdown,
    on_one_line,
    out_of_markdown,
    visible,
    whole_number,
    without_secrets,
)

FULL_WIDTH = "\uff1d\uff0b\uff0d\uff20"
"""What spreadsheets of East Asia take for =, +, - and @."""

HOSTILE = [
    '<img src="http://evil.example/x.png">',
    "![x](http://evil.example/x.png)",
    "[x](javascript:alert(1))",
    "<http://evil.example>",
    "# forged\n\n## heading",
    "a|b\n|---|\n|c|",
    "``code`` `x",
    "_a_ __b__ *c* **d** ~~e~~ snake_case_name",
    "&lt;b&gt; &#60;b&#62;",
    "$$ and $x_1$ and \\$",
    "back\\slash \\* \\",
    '=HYPERLINK("http://evil.example")',
    *(f"{sign}1+1" for sign in FULL_WIDTH),
    "\x1b]0;title\x07\x1b[31mred",
    "abc\u202edcba\u2066\r\u2028line",
    "half \udcff",
]
"""Texts that are something else in some form."""

PARTS = [*"\\`*_{}[]()<>#+-.!|&$~:^ \n\"'=", "a", "b1", "http://x", "lt;"]
"""What markup is made of."""

TEXTS = st.one_of(
    st.sampled_from(HOSTILE), st.text(), st.lists(st.sampled_from(PARTS), max_size=12).map("".join)
)

MARKDOWN = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])


class Shown(HTMLParser):
    """The text of a page of HTML, and its elements."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.text, self.tags = "", []
        self.feed(page)
        self.close()

    def handle_data(self, data: str) -> None:
        self.text += data

    def handle_starttag(self, tag: str, attrs: list) -> None:
        self.tags.append(tag)


def test_controls_and_overrides_of_direction_are_shown_and_nothing_else_is_changed():
    directed = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}
    for character in map(chr, range(0x11000)):
        unseen = unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp")
        unseen |= unicodedata.bidirectional(character) in directed
        is_shown = visible(character) != character
        assert is_shown == (unseen and character not in "\n\t"), hex(ord(character))
    assert not visible(chr(sys.maxunicode)).startswith("\\")
    assert visible("\x1b[31m\u202eab\udcff") == r"\x1b[31m\u202eab\udcff"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Illegal header value b'Bearer abc.def-1'", "Illegal header value b'Bearer ***'"),
        ("401 for hf_AbCdEfGh12345678 at https://hub", "401 for *** at https://hub"),
        ("proxy http://me:pass@proxy:80/", "proxy http://***@proxy:80/"),
        ("the value of mine: s3cret-value", "the value of mine: ***"),
        ("true of false, http://host:80/a@b", "true of false, http://host:80/a@b"),
    ],
)
def test_secrets_are_left_out(text, shown, monkeypatch):
    monkeypatch.setenv("MY_TOKEN", "s3cret-value")
    monkeypatch.setenv("OTHER_SECRET", "true")
    assert without_secrets(text) == shown


@given(TEXTS)
def test_one_line_has_no_end_of_line_and_can_be_printed(text):
    line = on_one_line(text)
    assert len(line.splitlines()) <= 1
    line.encode()


@given(TEXTS)
@example("a_b")
@example("](x)")
@example("p<0.001 [-0.3, -0.1] {+1} a_b")
def test_markdown_shows_the_text_and_nothing_else(text):
    written, line = in_markdown(text), on_one_line(text)
    for page, tag in ((f"x {written} y", "p"), (f"## x {written} y", "h2")):
        shown = Shown(MARKDOWN.render(page))
        assert shown.tags == [tag]
        assert shown.text.split() == f"x {line} y".split()
    table = document.markdown([Table([f"x {text} y"], [[f"x {text} y"]])])
    shown = Shown(MARKDOWN.render(table))
    assert shown.tags == ["table", "thead", "tr", "th", "tbody", "tr", "td"]
    assert shown.text.split() == f"x {line} y x {line} y".split()
    assert out_of_markdown(written) == line


def test_numbers_of_tables_are_written_as_they_are():
    for cell in ("2.80 ± 0.10 (-0.20 [-0.3, -0.1] {-0.4, +0.1} p<0.001)", "tau_sigma cross=0.5", "1 → 2"):
        assert in_markdown(cell) == cell


@given(TEXTS.filter(lambda text: text.strip()))
def test_code_is_the_text(text):
    shown = Shown(MARKDOWN.render(f"x {code_in_markdown(text)} y"))
    assert shown.tags == ["p", "code"]
    assert shown.text.strip() == f"x {on_one_line(text)} y"


@given(TEXTS)
def test_latex_has_no_command_but_those_that_stand_for_characters(text):
    written = in_latex(text)
    character = r"\\[&%$#_{}]|\\text(?:backslash|asciigrave|asciitilde|asciicircum)\{\}|\$\\(?:to|le|ge)\$"
    known = rf"{character}|(?:^|(?<=[-<>,'?!]))\{{\}}"
    assert not re.search(r"[\\&%$#_{}~^]", re.sub(known, "", written))
    assert not written.startswith(("[", "*"))


@given(TEXTS.map(lambda text: text.encode(errors="replace").decode()))
def test_no_cell_of_csv_is_a_formula(text):
    frame = pd.DataFrame({"name": [text, None], "mixed": [1, "a"], "score": [0.5, -1.5]})
    rows = list(csv.reader(io.StringIO(document.csv(frame))))
    assert rows[0] == ["name", "mixed", "score"]
    assert [row[1:] for row in rows[1:]] == [["1", "0.5"], ["a", "-1.5"]]
    cell = rows[1][0]
    assert cell in (in_csv(text), "")
    assert cell.removeprefix("'") == on_one_line(text).removeprefix("'")
    if cell.startswith(("=", "+", "-", "@", "\t", "\r", *FULL_WIDTH)):
        float(cell)


@pytest.mark.parametrize("text", [*HOSTILE[:9], "$", "$$", "$x$", r"\$", r"\frac{1}{2}", "$\\frac"])
def test_a_figure_shows_the_text(text):
    figure = Figure()
    figure.suptitle(f"x {in_figure(text)} y")
    shown = html.escape(on_one_line(f"x {text} y"), quote=False)
    assert shown in document.svg(figure).replace("&quot;", '"')


@pytest.mark.parametrize(
    ("text", "number"),
    [("0", 0), ("0012", 12), ("9" * 18, 10**18 - 1), ("9" * 5000, None), ("", None), ("-1", None)],
)
def test_what_is_more_digits_than_anything_has_is_no_number(text, number):
    assert whole_number(text) == number
