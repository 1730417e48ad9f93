"""A page in its forms."""

from nvreg.document import Table, latex, markdown

PAGE = [
    "# A & B",
    "Of `code` and 5% of x_1.",
    "## nll (lower is better)",
    Table(
        ["selection", "talks"],
        [["in-domain", "2.80 ± 0.10 (-0.20 [-0.3, -0.1] {-0.4, +0.1} p<0.001)"], ["b", "n/a"]],
    ),
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
    assert tables.count(r"\caption{nll (lower is better)}") == 2
    assert r"\{-0.4, +0.1\} p<0.001" in tables
    assert r"a | b * c\_d <i> `e` [f] \textbackslash" in tables
    assert r"\$g\$ 10\% \& \#" in tables
    assert "a point" not in tables
    odd = latex(["### a_b & 5%", Table(["b_c"], [["1 → 2"]])])
    assert r"\caption{a\_b \& 5\%}" in odd
    assert r"1 $\to$ 2" in odd
