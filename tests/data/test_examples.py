import json
import os
import tracemalloc
from itertools import pairwise

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nvreg.config import Source
from nvreg.data import Examples, load_examples
from nvreg.errors import UserError
from tests.data.reading import json_lines, load, texts_of, write

PAIRS = [("a cat", "ein Kater"), (" ", "NA"), ("x", "grün")]


def test_fingerprint_changes_with_text_and_order():
    variants = [PAIRS, PAIRS[::-1], PAIRS[:-1], [*PAIRS[:-1], ("x", "grün ")]]
    fingerprints = {
        Examples([{"source": en, "target": de} for en, de in pairs]).fingerprint for pairs in variants
    }
    assert len(fingerprints) == len(variants)


def test_fingerprint_is_that_of_earlier_versions():
    """It is part of the key of every trial."""
    assert (
        Examples([{"text": "a\r\u2028", "label": 1}]).fingerprint
        == "7ade44db1fa18439b0cd7d42b01443810155854da37106a6fb151e4342727282"
    )


def test_changed_file_of_the_same_time_and_size_is_read_anew(tmp_path):
    path = write(tmp_path / "a.txt", "old\n")
    os.utime(path, (1, 1))
    assert texts_of(files=path) == ["old"]
    os.utime(write(path, "new\n"), (1, 1))
    assert texts_of(files=path) == ["new"]


def test_limit_takes_the_first_and_with_a_seed_random_ones_in_order(tmp_path):
    path = write(tmp_path / "a.txt", "\n".join(map(str, range(100))))

    def numbers(**limit):
        return list(map(int, texts_of(files=path, **limit)))

    assert numbers(limit=7) == list(range(7))
    assert numbers(limit=1000) == numbers(limit=1000, seed=1) == list(range(100))
    assert numbers(limit=7, seed=1) == [8, 15, 17, 32, 63, 72, 97]  # as in earlier versions
    assert numbers(limit=7, seed=2) == [7, 10, 11, 21, 46, 85, 94]


@pytest.mark.parametrize("bad", ["not JSON", '{"text": 3}', '{"other": 3}'])
def test_nothing_after_the_limit_is_read(tmp_path, bad):
    content = '{"text": "a"}\n{"text": "b"}\n' + bad
    assert texts_of(files=write(tmp_path / "a.jsonl", content), limit=2) == ["a", "b"]
    with pytest.raises(UserError):
        texts_of(files=tmp_path / "a.jsonl", limit=2, seed=0)


LATE = {
    "a key that appears late": ({}, {"other": 1}),
    "null that becomes a number": ({"other": None}, {"other": 1}),
    "a number that becomes text": ({"other": 1}, {"other": "one"}),
    "a number that becomes a list of records": ({"other": 1}, {"other": [{"a": 1}]}),
    "a record that becomes text": ({"other": {"a": 1}}, {"other": "one"}),
}


@pytest.fixture(scope="module", params=LATE)
def large(request, tmp_path_factory):
    """A file of 13 MB whose keys that are not read change after 12 MB."""
    first, last = LATE[request.param]
    padding = "x" * 10_000
    records = [
        {"text": f"text {number}", "padding": padding, **(first if number < 1200 else last)}
        for number in range(1300)
    ]
    return write(tmp_path_factory.mktemp("large") / "a.jsonl", json_lines(records))


def test_what_is_not_asked_for_may_change_anywhere(large):
    assert texts_of(files=large) == [f"text {number}" for number in range(1300)]


PADDED = [(f"text {number}", os.urandom(5_000).hex()) for number in range(1300)]
LISTED = [{"text": text, "padding": padding} for text, padding in PADDED]
LARGE = {
    "a.jsonl": json_lines(LISTED),
    "a.json": json.dumps(LISTED),
    "a.csv": "text,padding\n" + "".join(f"{text},{padding}\n" for text, padding in PADDED),
    "a.tsv": "text\tpadding\n" + "".join(f"{text}\t{padding}\n" for text, padding in PADDED),
}


@pytest.mark.parametrize("limit", [{}, {"limit": 10}, {"limit": 10, "seed": 0}])
@pytest.mark.parametrize("name", LARGE)
def test_memory_is_for_what_is_asked_for(tmp_path, name, limit):
    path = write(tmp_path / name, LARGE[name])
    assert peak_of(files=path, **limit) < 5e6 < 13e6 < path.stat().st_size


@pytest.mark.parametrize("seed", [{}, {"seed": 0}])
def test_memory_is_for_the_lines_within_the_limit(tmp_path, seed):
    path = write(tmp_path / "a.txt", "".join(f"{padding}\n" for _, padding in PADDED))
    assert peak_of(files=path, limit=10, **seed) < 1e6


def peak_of(**source):
    """Return the most bytes that reading took."""
    tracemalloc.start()
    try:
        texts_of(**source)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_parallel_files_become_the_columns_of_their_names(tmp_path):
    source, target = write(tmp_path / "a.en", "one\n\nthree\n"), write(tmp_path / "a.de.gz", "eins\n\ndrei\n")
    assert load(columns={}, source_file=source, target_file=target).records == [
        {"source": "one", "target": "eins"},
        {"source": "", "target": ""},
        {"source": "three", "target": "drei"},
    ]


def test_a_carriage_return_within_a_line_shifts_no_pair(tmp_path):
    pairs = [(f"sentence {number}", f"Satz {number}") for number in range(12)]
    pairs[3] = ("a line\rof two parts", "eine Zeile aus zwei Teilen")
    source = write(tmp_path / "a.en", "".join(f"{en}\n" for en, _ in pairs))
    target = write(tmp_path / "a.de", "".join(f"{de}\n" for _, de in pairs))
    expected = [{"source": en, "target": de} for en, de in pairs]
    assert load(columns={}, source_file=source, target_file=target).records == expected
    pairs[7] = ("eight", "acht\u2028\x85\x0b\x0c\x1e")
    write(target, "".join(f"{de}\r\n" for _, de in pairs).removesuffix("\r\n"))
    write(source, "".join(f"{en}\n" for en, _ in pairs))
    expected = [{"source": en, "target": de} for en, de in pairs]
    assert load(columns={}, source_file=source, target_file=target).records == expected


@pytest.mark.parametrize("limit", [{}, {"limit": 1}, {"limit": 1, "seed": 0}])
def test_parallel_files_of_unequal_length_are_refused(tmp_path, limit):
    source, target = write(tmp_path / "a.en", "one\ntwo\n"), write(tmp_path / "a.de", "eins\n")
    with pytest.raises(UserError, match=r"same number of lines, got 2 in .*a\.en and 1 in .*a\.de"):
        load(columns={}, source_file=source, target_file=target, **limit)


def test_parallel_files_without_lines_are_refused(tmp_path):
    source, target = write(tmp_path / "a.en", ""), write(tmp_path / "a.de", "")
    with pytest.raises(UserError, match=r"a\.en and .*a\.de: expected at least one record"):
        load(columns={}, source_file=source, target_file=target)


def test_parallel_files_are_those_of_translation(tmp_path):
    source, target = write(tmp_path / "a.en", "one\n"), write(tmp_path / "a.de", "eins\n")
    with pytest.raises(UserError, match="expected files or hub for the column 'document'"):
        load(("document", "summary"), {}, source_file=source, target_file=target)


@given(st.integers(3, 60), st.lists(st.floats(0.01, 0.99), max_size=4))
def test_parts_of_a_source_share_no_record_and_are_all_of_it(tmp_path_factory, count, cuts):
    path = write(tmp_path_factory.mktemp("parts") / "a.txt", "\n".join(map(str, range(count))))
    ends = [0, *sorted(set(cuts)), 1]
    found = []
    for start, end in pairwise(ends):
        if round(start * count) == round(end * count):
            with pytest.raises(UserError, match="part: expected at least one record from"):
                texts_of(files=path, part=[start, end])
            continue
        part = list(map(int, texts_of(files=path, part=[start, end])))
        assert part == sorted(part)
        assert part == list(map(int, texts_of(files=path, part=[start, end])))
        found += part
    assert sorted(found) == list(range(count))


def test_a_limit_takes_from_a_part_of_the_records_that_is_drawn_from_all_of_them(tmp_path):
    path = write(tmp_path / "a.txt", "\n".join(map(str, range(100))))
    part = texts_of(files=path, part=[0, 0.2])
    assert len(part) == 20
    assert part != list(map(str, range(20)))
    assert texts_of(files=path, part=[0, 0.2], limit=5) == part[:5]
    assert set(texts_of(files=path, part=[0, 0.2], limit=5, seed=1)) < set(part)


@pytest.mark.parametrize("part", [[0.5, 0.5], [0.6, 0.2], [-0.1, 0.5], [0.5, 1.1]])
def test_a_part_is_within_the_whole(part):
    with pytest.raises(ValueError, match="part: expected \\[from, to\\] with 0 <= from < to <= 1, got"):
        Source(files="x", part=part)


@pytest.mark.parametrize("labelled", ["b.jsonl", "b.csv", "b.parquet", "a.jsonl"])
def test_a_set_is_without_labels_where_no_record_has_one(tmp_path, labelled):
    write(tmp_path / "a.jsonl", '{"text": "x"}\n')
    pattern = Source(files=str(tmp_path / "[ab]*"))
    assert load_examples(pattern, {}, ["text", "label"], "label").records == [{"text": "x"}]
    if labelled == "b.csv":
        write(tmp_path / labelled, "text,label\ny,1\n")
    elif labelled == "b.parquet":
        pd.DataFrame({"text": ["y"], "label": [1]}).to_parquet(tmp_path / labelled)
    else:
        write(tmp_path / labelled, '{"text": "x"}\n{"text": "y", "label": 1}\n')
    with pytest.raises(UserError, match="a column 'label' in every record or in none, got it in some"):
        load_examples(pattern, {}, ["text", "label"], "label")


@pytest.mark.parametrize("suffix", ["jsonl", "csv", "parquet"])
@pytest.mark.parametrize("labels", [[None, None], [-1, -1], [None, -1]])
def test_a_column_that_holds_nothing_is_as_if_it_were_not_there(tmp_path, suffix, labels):
    texts, path = ["x", "y"], tmp_path / f"a.{suffix}"
    if suffix == "jsonl":
        records = [{"text": text, "label": label} for text, label in zip(texts, labels, strict=True)]
        write(path, json_lines(records))
    elif suffix == "csv":
        rows = [
            f"{text},{'' if label is None else label}\n" for text, label in zip(texts, labels, strict=True)
        ]
        write(path, "text,label\n" + "".join(rows))
    else:
        pd.DataFrame({"text": texts, "label": pd.array(labels, "Int64")}).to_parquet(path)
    source, asked = Source(files=str(path)), ({}, ["text", "label"], "label")
    without = [{"text": text} for text in texts]
    assert load_examples(source, *asked, ["-1"]).records == without
    if set(labels) == {None}:
        assert load_examples(source, *asked).records == without
    elif None in labels:
        with pytest.raises(UserError, match="in every record or in none, got it in some"):
            load_examples(source, *asked)
    else:
        assert [int(each["label"]) for each in load_examples(source, *asked).records] == labels


def test_what_stands_for_nothing_is_a_label_among_others(tmp_path):
    path = write(tmp_path / "a.jsonl", json_lines([{"text": "x", "label": n} for n in (-1, 1)]))
    examples = load_examples(Source(files=str(path)), {}, ["text", "label"], "label", ["-1"])
    assert [record["label"] for record in examples.records] == [-1, 1]
