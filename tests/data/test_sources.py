import gzip
import json
import os

import datasets
import pandas as pd
import pytest

from nvreg.config import Source
from nvreg.data import load_examples
from nvreg.errors import UserError

PAIRS = [("a cat", "ein Kater"), (" ", "NA"), ("12", 'a "b", c'), ("x", "grün")]
COLUMNS = {"source": "en", "target": "de"}


def load(required=("source", "target"), columns=COLUMNS, **source):
    return load_examples(Source(**{key: _text(value) for key, value in source.items()}), columns, required)


def _text(value):
    return str(value) if isinstance(value, os.PathLike) else value


def write(path, text):
    content = text.encode() if isinstance(text, str) else text
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def json_lines(pairs):
    return "".join(json.dumps({"en": en, "de": de, "number": 1}) + "\n" for en, de in pairs)


def frame():
    return pd.DataFrame(PAIRS, columns=["en", "de"])


CONTENTS = {
    "a.jsonl": json_lines(PAIRS),
    "a.json": json.dumps([{"en": en, "de": de} for en, de in PAIRS]),
    "a.csv": frame().to_csv(index=False),
    "a.tsv": "en\tde\n" + "".join(f"{en}\t{de}\n" for en, de in PAIRS),
    "a.parquet": frame().to_parquet(),
}


@pytest.mark.parametrize("name", [*CONTENTS, "a.jsonl.gz", "a.json.gz", "a.csv.gz", "a.tsv.gz"])
def test_every_format_holds_the_same_records(tmp_path, name):
    path = write(tmp_path / name, CONTENTS[name.removesuffix(".gz")])
    examples = load(files=path)
    assert examples.records == [{"source": en, "target": de} for en, de in PAIRS]
    assert examples.fingerprint == load(files=write(tmp_path / "other.jsonl", json_lines(PAIRS))).fingerprint


def test_text_may_be_empty_where_the_format_tells_it_from_missing(tmp_path):
    assert load(files=write(tmp_path / "a.jsonl", json_lines([("", "b")]))).records[0]["source"] == ""


def test_fingerprint_changes_with_text_and_order(tmp_path):
    variants = [PAIRS, PAIRS[::-1], PAIRS[:-1], [*PAIRS[:-1], ("x", "grün ")]]
    fingerprints = {
        load(files=write(tmp_path / "a.jsonl", json_lines(pairs))).fingerprint for pairs in variants
    }
    assert len(fingerprints) == len(variants)


@pytest.mark.parametrize("name", ["a.txt", "a.txt.gz"])
def test_text_has_a_line_a_record(tmp_path, name):
    path = write(tmp_path / name, 'one\n\n "two"\u2028 x\nthree')
    examples = load(required=("text",), columns={}, files=path)
    assert [record["text"] for record in examples.records] == ["one", "", ' "two"\u2028 x', "three"]


def test_a_byte_order_mark_is_no_text(tmp_path):
    path = write(tmp_path / "a.txt", "\ufeffone\ntwo")
    examples = load(required=("text",), columns={}, files=path)
    assert [record["text"] for record in examples.records] == ["one", "two"]


def test_parallel_files_become_the_columns_of_their_names(tmp_path):
    source, target = write(tmp_path / "a.en", "one\n\nthree\n"), write(tmp_path / "a.de.gz", "eins\n\ndrei\n")
    examples = load(source_file=source, target_file=target)
    assert examples.records[2] == {"source": "three", "target": "drei"}
    assert len(examples) == 3


def test_parallel_files_of_unequal_length_are_refused(tmp_path):
    source, target = write(tmp_path / "a.en", "one\ntwo\n"), write(tmp_path / "a.de", "eins\n")
    with pytest.raises(UserError, match=r"same number of lines, received 2 in .*a\.en and 1 in .*a\.de"):
        load(source_file=source, target_file=target)


def test_glob_reads_files_by_name_even_if_their_formats_and_other_columns_differ(tmp_path):
    write(tmp_path / "2.jsonl", '{"en": "c", "de": "d", "other": "text"}\n')
    write(tmp_path / "1.csv", "en,de\na,b\n")
    write(tmp_path / "3.jsonl", '{"en": "e", "de": "f", "other": 5}\n')
    assert [record["source"] for record in load(files=tmp_path / "*.*").records] == ["a", "c", "e"]


def test_name_with_glob_characters_is_a_file(tmp_path):
    write(tmp_path / "a1.jsonl", json_lines([("wrong", "wrong")]))
    assert len(load(files=write(tmp_path / "a[1].jsonl", json_lines(PAIRS)))) == len(PAIRS)


def test_nested_columns_and_columns_of_the_source_first(tmp_path):
    path = write(tmp_path / "a.jsonl", '{"translation": {"en": "a", "de": "b"}, "fr": "c"}\n')
    examples = load(files=path, columns={"source": "translation.en", "target": "translation.de"})
    assert examples.records == [{"source": "a", "target": "b"}]
    with_own = load_examples(
        Source(files=str(path), columns={"target": "fr"}), {"source": "translation.en"}, ("source", "target")
    )
    assert with_own.records == [{"source": "a", "target": "c"}]


def test_two_tasks_columns_may_be_one_column(tmp_path):
    path = write(tmp_path / "a.jsonl", '{"text": "a"}\n')
    assert load(files=path, columns={"source": "text", "target": "text"}).records == [
        {"source": "a", "target": "a"}
    ]


def test_limit_takes_the_first_and_with_a_seed_random_ones_in_order(tmp_path):
    path = write(tmp_path / "a.jsonl", json_lines([(str(number), "x") for number in range(100)]))

    def numbers(**limit):
        return [int(record["source"]) for record in load(files=path, **limit).records]

    assert numbers(limit=7) == list(range(7))
    assert numbers(limit=1000) == numbers(limit=1000, seed=1) == list(range(100))
    drawn = numbers(limit=7, seed=1)
    assert drawn == sorted(drawn) == numbers(limit=7, seed=1)
    assert len(set(drawn)) == 7
    assert drawn != numbers(limit=7, seed=2)
    assert drawn != list(range(7))


def test_changed_file_of_the_same_time_and_size_is_read_anew(tmp_path):
    path = write(tmp_path / "a.jsonl", json_lines([("old", "text")]))
    os.utime(path, (1, 1))
    assert load(files=path).records[0]["source"] == "old"
    os.utime(write(path, json_lines([("new", "text")])), (1, 1))
    assert load(files=path).records[0]["source"] == "new"


def test_reading_prints_nothing_and_restores_what_datasets_printed(tmp_path, capfd):
    datasets.enable_progress_bars()
    verbosity = datasets.logging.get_verbosity()
    load(files=write(tmp_path / "a.jsonl", json_lines(PAIRS)))
    with pytest.raises(UserError):
        load(files=write(tmp_path / "b.jsonl", "{"))
    assert capfd.readouterr() == ("", "")
    assert not datasets.are_progress_bars_disabled()
    assert datasets.logging.get_verbosity() == verbosity


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", "", "expected at least one record, the file is empty"),
        ("a.jsonl", "\n\n", "expected at least one record"),
        ("a.jsonl.gz", "", "expected at least one record"),
        ("a.json", "[]", "expected at least one record"),
        ("a.csv", "", "expected at least one record"),
        ("a.csv", "en,de\n", "expected at least one record"),
        ("a.txt", "", "expected at least one record"),
        ("a.parquet", frame()[:0].to_parquet(), "expected at least one record"),
        ("a.jsonl", '{"en": "a", "de": "b"}\n\n{"en": "a"\n', "expected jsonl, received: line 3: Expecting"),
        ("a.json", '[{"en": "a"', "expected json, received"),
        ("a.csv", "en,de\na,b\nc,d,e\n", "expected csv, received: .*line 3, saw 3"),
        ("a.csv", "en,de\na,b,c\n", "expected csv, received"),
        ("a.csv", 'en,de\n"",b\n', "record 1, column 'en': expected text, received nothing"),
        ("a.csv", "en,de\na\n", "record 1, column 'de': expected text, received nothing"),
        ("a.parquet", "text", "expected parquet, received"),
        ("a.jsonl.gz", None, "expected jsonl, received"),
        (
            "a.tsv",
            "en\tde\ngr\udcfcn\tb\n".encode(errors="surrogateescape"),
            "expected tsv, received: .*utf-8",
        ),
        (
            "a.jsonl",
            '{"en": "a", "fr": "b"}\n',
            "expected a column 'de', received en, fr; name the right one",
        ),
        ("a.jsonl", '{"en": "a", "de": "b"}\n{"en": "c"}\n', "record 2, column 'de': .* received nothing"),
        ("a.jsonl", '{"en": "a", "de": "b"}\n{"en": "c", "de": 3}\n', r"record 2, .* received 3 \(int\)"),
        ("a.jsonl", '{"en": "a", "de": {"x": "y"}}\n', "expected a column 'de', received en, de.x"),
        ("a.xml", "<a/>", "expected one of .jsonl, .json, .csv, .tsv, .parquet, .txt .* received '.xml'"),
    ],
)
def test_bad_file_gives_one_line_that_names_it(tmp_path, name, content, message):
    path = tmp_path / name
    if content is None:
        path.write_text(json_lines(PAIRS))
    else:
        write(path, content)
    with pytest.raises(UserError, match=message) as caught:
        load(files=path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def labelled(path, *labels, required=("text", "label")):
    write(path, "".join(json.dumps({"text": "a", "label": label}) + "\n" for label in labels))
    return [record["label"] for record in load(required, {}, files=path).records]


def test_labels_are_numbers_or_text_as_the_format_has_them(tmp_path):
    assert labelled(tmp_path / "a.jsonl", 1, 0) == [1, 0]
    assert labelled(tmp_path / "a.jsonl", "good", "bad") == ["good", "bad"]
    path = write(tmp_path / "a.csv", "text,label\na,1\n")
    assert load(("text", "label"), {}, files=path).records == [{"text": "a", "label": "1"}]


@pytest.mark.parametrize(
    ("label", "received"),
    [(None, "nothing"), (1.5, r"1.5 \(float\)"), (True, r"True \(bool\)"), ([1], r"\[1\] \(list\)")],
)
def test_what_is_no_label_is_refused(tmp_path, label, received):
    message = rf"record 1, column 'label': expected a label, .* number or text, received {received}"
    with pytest.raises(UserError, match=message):
        labelled(tmp_path / "a.jsonl", label, label)


def test_numbered_labels_become_their_names_and_below_0_are_missing(tmp_path, hub_cache):
    features = datasets.Features(
        {"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["neg", "pos"])}
    )
    for split, labels in {"train": [1, 0], "test": [1, -1]}.items():
        table = datasets.Dataset.from_dict({"text": ["a", "b"], "label": labels}, features=features)
        table.to_parquet(tmp_path / "set" / f"{split}.parquet")
    records = load(("label",), {}, hub=tmp_path / "set", split="train").records
    assert [record["label"] for record in records] == ["pos", "neg"]
    with pytest.raises(UserError, match=r"record 2, column 'label': expected a label.*received nothing"):
        load(("label",), {}, hub=tmp_path / "set", split="test")


def test_choices_are_a_list_of_texts(tmp_path):
    lists = [["a", "b", "c"], ["d", "e"]]
    lines = [json.dumps({"question": {"choices": choices}}) + "\n" for choices in lists]
    path = write(tmp_path / "a.jsonl", "".join(lines))
    records = load(("choices",), {"choices": "question.choices"}, files=path).records
    assert [record["choices"] for record in records] == lists


@pytest.mark.parametrize("choices", ["a", ["a"], [1, 2], ["a", None]])
def test_what_are_no_choices_is_refused(tmp_path, choices):
    path = write(tmp_path / "a.jsonl", json.dumps({"choices": choices}) + "\n")
    with pytest.raises(UserError, match="column 'choices': expected a list of two or more texts, received"):
        load(("choices",), {}, files=path)


def test_parallel_files_are_those_of_translation(tmp_path):
    source, target = write(tmp_path / "a.en", "one\n"), write(tmp_path / "a.de", "eins\n")
    with pytest.raises(UserError, match="expected files or hub for the column 'document'"):
        load(("document", "summary"), {}, source_file=source, target_file=target)


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("none.jsonl", "expected a file, there is none"),
        ("none*.jsonl", "expected files that match, there are none"),
        (".", "received a directory"),
    ],
)
def test_missing_file_is_named(tmp_path, pattern, message):
    with pytest.raises(UserError, match=message):
        load(files=tmp_path / pattern)


@pytest.fixture
def hub_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def test_hub_data_set_has_splits_and_nested_columns(tmp_path, hub_cache):
    directory = tmp_path / "set"
    directory.mkdir()
    write(directory / "test.jsonl", '{"translation": {"en": "a", "de": "b"}}\n')
    columns = {"source": "translation.en", "target": "translation.de"}
    assert load(hub=directory, split="test", columns=columns).records == [{"source": "a", "target": "b"}]
    with pytest.raises(UserError, match=r"expected a split, one of test, received none"):
        load(hub=directory, columns=columns)
    with pytest.raises(UserError, match=r"expected a data set of the hub, received: .*Unknown split"):
        load(hub=directory, split="train", columns=columns)


def test_configs_of_the_hub_s_own_conversion_are_folders(tmp_path, hub_cache):
    for config in ("en-de", "en-fr"):
        table = datasets.Dataset.from_dict({"en": [config], "de": ["a"]})
        table.to_parquet(tmp_path / "set" / config / "test" / "0000.parquet")
    found = load(hub=tmp_path / "set", revision="refs/convert/parquet", config="en-fr", split="test")
    assert found.records == [{"source": "en-fr", "target": "a"}]


def test_unreachable_hub_says_how_to_go_on_without_it(hub_cache):
    with pytest.raises(UserError, match=r"nvreg-tests/none: .*cannot be reached.*give its path as files"):
        load(hub="nvreg-tests/none", split="test")
