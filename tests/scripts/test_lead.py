"""What the beginning of a document scores as its summary."""

import json

import pytest

from scripts.lead import beginning, main


@pytest.mark.parametrize(
    ("sentences", "expected"), [(1, "#Ann#: Is it late?"), (2, "#Ann#: Is it late? #Bob#: No, 3.30 p.m!")]
)
def test_sentences_end_with_a_mark_that_white_space_follows(sentences, expected):
    assert beginning("#Ann#: Is it late?\n#Bob#: No, 3.30 p.m!  Go on.", sentences) == expected


def test_a_file_has_a_row_for_each_number_of_sentences(tmp_path, capsys):
    path = tmp_path / "test.jsonl"
    record = {"document": "A cat sat. It slept.\u2028It woke.", "summary": "A cat sat."}
    other = {"document": "Another.", "summary": "A cat sat."}
    path.write_text("".join(json.dumps(each, ensure_ascii=False) + "\n" for each in (record, other)))
    main(["--limit", "1", str(path)])
    one, three = capsys.readouterr().out.splitlines()[2:]
    assert one == f"| {path} | 1 | 1.000 | 1.000 | 1.000 |"
    assert three == f"| {path} | 3 | 0.600 | 0.500 | 0.600 |"  # 3 of 7 words and of 3, 2 of 6 pairs and of 2
