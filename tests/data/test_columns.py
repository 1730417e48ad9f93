import json

import pytest

from nvreg.config import Source
from nvreg.data import load_examples
from nvreg.errors import UserError
from tests.data.reading import json_lines, load, records_of, texts_of, write


def test_nested_columns_and_columns_of_the_source_first(tmp_path):
    path = write(tmp_path / "a.jsonl", '{"translation": {"en": "a", "de": "b"}, "fr": "c"}\n')
    examples = load(files=path, columns={"source": "translation.en", "target": "translation.de"})
    assert examples.records == [{"source": "a", "target": "b"}]
    with_own = load_examples(
        Source(files=str(path), columns={"target": "fr"}), {"source": "translation.en"}, ("source", "target")
    )
    assert with_own.records == [{"source": "a", "target": "c"}]


@pytest.mark.parametrize(
    "record",
    [
        {"a.b.c": "x", "a": {"b.c": "y"}},
        {"a": {"b.c": "x"}},
        {"a.b": {"c": "x"}, "a": 1},
        {"a": {"d": "y"}, "a.b": {"c": "x"}},
    ],
)
def test_a_name_with_dots_may_be_one_key_or_several(tmp_path, record):
    assert records_of(
        ("text",), {"text": "a.b.c"}, files=write(tmp_path / "a.jsonl", json.dumps(record))
    ) == [{"text": "x"}]


def test_two_tasks_columns_may_be_one_column(tmp_path):
    path = write(tmp_path / "a.jsonl", '{"text": "a"}\n')
    assert load(files=path, columns={"source": "text", "target": "text"}).records == [
        {"source": "a", "target": "a"}
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"en": "a", "fr": "b"}\n', "expected a column 'de', got en, fr; name the right one under columns"),
        ('{"en": "a", "de": {"x": "y"}}\n', "expected a column 'de', got en, de.x"),
        ("{}", "expected a column 'en', got none"),
        ('{"a\\nb": "a"}\n', r"expected a column 'en', got 'a\\nb'"),
        ('{"en": "a", "de": "b"}\n{"en": "c"}\n', "record 2, column 'de': expected text, got nothing"),
        ('{"en": "a", "de": "b"}\n{"en": "c", "de": 3}\n', r"record 2, .* got 3 \(int\)"),
        ('{"en": "a", "de": "b"}\n{"en": "c", "de": {}}\n', r"record 2, .* got {} \(dict\)"),
        ('{"en": "a", "de": "\\ud800"}\n', r"record 1, .* got '\\ud800', which holds half of a surrogate"),
    ],
)
def test_what_is_missing_or_no_text_gives_one_line_that_names_it(tmp_path, content, message):
    path = write(tmp_path / "a.jsonl", content)
    with pytest.raises(UserError, match=message) as caught:
        load(files=path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "text", ["2010-02-11", "2010-02-11T10:00:00Z", "12", "1e-3", "true", "null", "NaN", ""]
)
def test_what_a_file_says_is_text_stays_text(tmp_path, text):
    """In every record: types are never guessed."""
    record = {"text": text, "label": text, "choices": [text, text]}
    path = write(tmp_path / "a.jsonl", json_lines([record] * 3))
    assert records_of(("text", "label", "choices"), files=path) == [record] * 3


def labelled(path, *labels):
    write(path, json_lines({"label": label} for label in labels))
    return [record["label"] for record in records_of(("label",), files=path)]


def test_labels_are_numbers_or_text_as_the_format_has_them(tmp_path):
    assert labelled(tmp_path / "a.jsonl", 1, 0) == [1, 0]
    assert labelled(tmp_path / "a.jsonl", "good", "01", 1) == ["good", "01", 1]
    path = write(tmp_path / "a.csv", "text,label\na,1\nb,01\n")
    assert [record["label"] for record in records_of(("label",), files=path)] == ["1", "01"]


@pytest.mark.parametrize(
    ("label", "got"),
    [(None, "nothing"), (1.5, r"1.5 \(float\)"), (True, r"True \(bool\)"), ([1], r"\[1\] \(list\)")],
)
def test_what_is_no_label_is_refused(tmp_path, label, got):
    message = rf"record 2, column 'label': expected a label, .* number or text, got {got}"
    with pytest.raises(UserError, match=message):
        labelled(tmp_path / "a.jsonl", 1, label)


def test_choices_tokens_and_tags_are_lists(tmp_path):
    lines = [{"question": {"choices": ["a", "b", "c"]}, "tokens": ["a"], "tags": ["O"]}]
    lines += [{"question": {"choices": ["d", "e"]}, "tokens": ["b", "c"], "tags": [0, 1]}]
    path = write(tmp_path / "a.jsonl", json_lines(lines))
    found = records_of(("choices", "tokens", "tags"), {"choices": "question.choices"}, files=path)
    assert found == [
        {"choices": line["question"]["choices"], "tokens": line["tokens"], "tags": line["tags"]}
        for line in lines
    ]


@pytest.mark.parametrize(
    ("column", "value", "expected"),
    [
        *(("choices", value, "a list of two or more texts") for value in ("a", ["a"], [1, 2], ["a", None])),
        *(("tokens", value, "a list of one or more texts") for value in ("a", [], [1])),
        *(("tags", value, "a list of one or more labels") for value in ("O", [], [None], [0.5])),
    ],
)
def test_what_is_no_list_of_its_kind_is_refused(tmp_path, column, value, expected):
    path = write(tmp_path / "a.jsonl", json.dumps({column: value}))
    with pytest.raises(UserError, match=f"column '{column}': expected {expected}.*, got"):
        records_of((column,), files=path)


@pytest.mark.parametrize("tags", [["O"], ["O", "O", "O"]])
def test_every_token_has_a_tag(tmp_path, tags):
    lines = [{"tokens": ["a"], "tags": ["O"]}, {"tokens": ["a", "b"], "tags": tags}]
    path = write(tmp_path / "a.jsonl", json_lines(lines))
    message = f"record 2: expected a tag for every token, got 2 tokens and {len(tags)} tags"
    with pytest.raises(UserError, match=message) as caught:
        records_of(("tokens", "tags"), files=path)
    assert str(caught.value).startswith(str(path))
    assert len(records_of(("tokens",), files=path)) == 2


def test_text_may_be_empty_where_the_format_tells_it_from_missing(tmp_path):
    assert texts_of(files=write(tmp_path / "a.jsonl", '{"text": ""}')) == [""]
