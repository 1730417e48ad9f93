"""A page in its forms."""

from nvreg.document import Cell, Drawing, Marked, PageSection, Table, Verdict, latex, markdown

NUMBER = Cell("2.80 ± 0.10", "-0.20", "{-0.4, -0.1}", "better", ("p < 0.001",), 2.8)
PAGE = [
    "# A & B",
    "Of `code` and 5% of x_1.",
    "## nll (lower is better)",
    Table(["selection", "talks"], [["in-domain", NUMBER], ["b", Cell("n/a")]]),
    "- a point",
    Table(["example"], [["a | b * c_d <i> `e` [f] \\ $g$ 10% & #"]]),
]


def test_markdown_lines_up_as_plain_text():
    rows = markdown(PAGE[3:4]).splitlines()
    assert len({len(row) for row in rows}) == 1
    assert rows[0].startswith("| selection | talks ")
    assert rows[1].startswith("| --------- | -----")


def test_blocks_are_paragraphs():
    assert markdown(PAGE).startswith("# A & B\n\nOf `code`")
    assert markdown(["a"]) == "a\n"


def test_text_is_escaped_in_markdown():
    assert r"a \| b \* c_d \<i\> \`e\` [f] \\ \$g\$ 10% \& \#" in markdown(PAGE)


def test_latex_has_the_tables_with_their_headings():
    tables = latex(PAGE)
    assert tables.count(r"\begin{table}") == tables.count(r"\bottomrule") == 2
    small = r"\caption{nll (lower is better). Small: the difference, and below it its 95\% interval;"
    assert tables.count(small) == tables.count(r"\caption{nll (lower is better)}") == 1
    assert r"a | b * c\_d <i> \textasciigrave{}e\textasciigrave{} [f] \textbackslash" in tables
    assert r"\$g\$ 10\% \& \#" in tables
    assert "a point" not in tables
    odd = latex(["### a_b & 5%", Table(["b_c"], [["1 → 2"]])])
    assert r"\caption{a\_b \& 5\%}" in odd
    assert r"1 $\to$ 2" in odd


def test_a_number_is_a_line_of_markdown_and_two_of_latex():
    assert str(NUMBER) == "2.80 ± 0.10 (-0.20 {-0.4, -0.1}) ✓"
    assert str(Cell("+0.20", "", "{+0.1, +0.4}", "worse")) == "+0.20 {+0.1, +0.4} ✗"
    assert str(Cell("0.5", "pretrained")) == "0.5 (pretrained)"
    rows = latex(PAGE).split(r"\midrule")[1].splitlines()[1:4]
    assert rows == [
        r"in-domain & \textbf{2.80 ± 0.10} {\scriptsize \textbf{$-$0.20}} \\",
        r" & {\scriptsize \textbf{\{$-$0.4, $-$0.1\}}} \\[2pt]",
        r"b & n/a \\",
    ]


def test_sections_are_headings_but_for_asides_and_drawings_are_left_out():
    inner = PageSection("Inner *b*", ["text"])
    page = [PageSection("Outer", [inner, PageSection("Aside", ["more"], is_aside=True)]), Drawing("<svg/>")]
    assert markdown(page) == "## Outer\n\n### Inner \\*b\\*\n\ntext\n\nmore\n"
    assert markdown([*page, PageSection("Drawn", [Drawing("<svg/>")])]) == markdown(page)
    assert r"\caption{Outer}" in latex([PageSection("Outer", [Table(["a"], [["b"]])])])


def test_a_verdict_is_text_in_every_form():
    verdict = [Verdict(["a_b helps *much*.", "50 % of c_d."])]
    assert markdown(verdict) == "**Verdict.** a_b helps \\*much\\*. 50 % of c_d.\n"
    assert r"\paragraph{Verdict} a\_b helps *much*. 50 \% of c\_d." in latex(verdict)


def test_words_are_marked():
    marked = Marked([("a | b", False), ("c*", True)])
    assert r"| a \| b **c\*** |" in markdown([Table(["x"], [[marked]])])
    assert "a | b c*" in latex([Table(["x"], [[marked]])])
