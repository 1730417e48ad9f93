"""README.md and other documents quote the committed reports as they are."""

import shutil
from pathlib import Path

import pytest

from nvreg.errors import UserError
from scripts import readme
from scripts.quoting import MARKED
from scripts.readme import DOCUMENTS, QUOTES, RESULTS, filled

DEMO = DOCUMENTS[1]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_documents_quote_the_committed_reports(document: Path) -> None:
    text = document.read_text()
    assert filled(text) == text, f"expected {document.name} to quote the reports: make readme"


def test_every_quote_stands_somewhere_and_says_something() -> None:
    text = "".join(document.read_text() for document in DOCUMENTS)
    quoted = {match["name"]: match[0].splitlines()[1:-1] for match in MARKED.finditer(text)}
    assert set(quoted) == set(QUOTES)
    assert all(len(lines) > 0 for lines in quoted.values())


def test_a_changed_report_changes_the_quotes(tmp_path: Path) -> None:
    results = tmp_path / "results"
    shutil.copytree(RESULTS / "embedded", results / "embedded")
    report = results / "embedded" / "language-modelling" / "report.md"
    plain = report.read_text().split("\n## ")[1]
    (row,) = [line for line in plain.splitlines() if line.startswith("| pretrained")]
    score = row.split("|")[2].strip()
    report.write_text(report.read_text().replace(row, row.replace(score, "1234.5")))
    text = DEMO.read_text()
    assert filled(text, results) == text.replace(f"| pretrained | {score} ", "| pretrained | 1234.5 ")


def test_a_cell_of_the_rivals_has_score_deviation_and_one_interval(tmp_path: Path) -> None:
    page = """# 2 runs

Text.

## accuracy (higher is better)

- plain nv (in-domain): improves home; worsens no domain.

| selection | run | method | home (in-domain) | settings | search | training |
| --- | --- | --- | --- | --- | --- | --- |
| pretrained | plain | pretrained | 0.8 ± 0.1 |  |  | 0:00:32 |
| pretrained | mvcr | pretrained | 0.7 ± 0.1 |  |  | 0:00:42 |
| in-domain | plain | nv | 0.9 ± 0.2 (+0.1 [+0.0, +0.2] {-1, +2} p=0.5) | 6 | 0:01 | 0:00:32 |
| leave-one-domain-out | plain | nv | 0.6 ± 0.2 (-0.2 [-0.3, -0.1] {-4, +3} p=0.5) | 6 | 0:01 | 0:00:32 |

## nll (lower is better)
"""
    (tmp_path / "embedded" / "rivals").mkdir(parents=True)
    (tmp_path / "embedded" / "rivals" / "combined.md").write_text(page)
    assert QUOTES["rivals"](tmp_path).splitlines() == [
        "| fine-tuning | home (in-domain) |",
        "| --- | --- |",
        "| plain, 0:00:32 of training | 0.8 ± 0.1 |",
        "| + nv | 0.6 ± 0.2 {-4, +3} |",
        "| mvcr, 0:00:42 of training | 0.7 ± 0.1 |",
    ]


def test_text_outside_the_markers_stays() -> None:
    text = "a\n<!-- results: findings -->\nold\n<!-- end -->\nb\n"
    assert filled(text).startswith("a\n<!-- results: findings -->\n- [classification](../results")
    assert filled(text).endswith(".\n<!-- end -->\nb\n")
    assert filled("a < b\n") == "a < b\n"


def test_an_unknown_quote_is_refused() -> None:
    with pytest.raises(UserError, match=r"expected one of the quotes .*, got 'x': mend the marker"):
        filled("<!-- results: x -->\n<!-- end -->")


def test_a_report_that_is_missing_or_another_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(readme, "DOCUMENTS", [tmp_path / "README.md"])
    (tmp_path / "README.md").write_text("<!-- results: rivals -->\n<!-- end -->")
    monkeypatch.setattr(readme, "filled", lambda text: filled(text, tmp_path))
    assert readme.main() == 2
    assert capsys.readouterr().err.startswith(
        f"readme: expected a report {tmp_path / 'embedded' / 'rivals' / 'combined.md'}"
    )
    (tmp_path / "embedded" / "rivals").mkdir(parents=True)
    (tmp_path / "embedded" / "rivals" / "combined.md").write_text("# 2 runs\n")
    assert readme.main() == 2
    assert "expected a report with a section 'accuracy'" in capsys.readouterr().err
