import csv
import gzip
import io
import json
from unittest.mock import patch

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from nvreg.data import formats
from nvreg.errors import UserError
from tests.data.reading import json_lines, load, records_of, texts_of, write

PAIRS = [("a cat", "ein Kater"), (" ", "NA"), ("12", 'a "b", c'), ("2010-02-11", "grün")]
EXPECTED = [{"source": en, "target": de} for en, de in PAIRS]

FRAME = pd.DataFrame(PAIRS, columns=["en", "de"])

CONTENTS = {
    "a.jsonl": json_lines({"en": en, "de": de, "number": 1} for en, de in PAIRS),
    "a.json": json.dumps([{"en": en, "de": de} for en, de in PAIRS], indent=2),
    "a.csv": FRAME.to_csv(index=False),
    "a.tsv": "en\tde\n" + "".join(f"{en}\t{de}\n" for en, de in PAIRS),
    "a.parquet": FRAME.to_parquet(),
}
OF_TEXT = ["a.jsonl", "a.json", "a.csv", "a.tsv"]


@pytest.mark.parametrize("name", [*CONTENTS, *(f"{name}.gz" for name in OF_TEXT)])
def test_every_format_holds_the_same_records(tmp_path, name):
    path = write(tmp_path / name, CONTENTS[name.removesuffix(".gz")])
    examples = load(files=path)
    assert examples.records == EXPECTED
    assert examples.fingerprint == load(files=write(tmp_path / "b.jsonl", CONTENTS["a.jsonl"])).fingerprint


@pytest.mark.parametrize("name", OF_TEXT)
def test_a_byte_order_mark_and_the_ends_of_lines_of_another_system_are_no_text(tmp_path, name):
    content = CONTENTS[name].replace("\n", "\r\n")
    assert load(files=write(tmp_path / name, "\ufeff" + content)).records == EXPECTED
    assert load(files=write(tmp_path / name, content.removesuffix("\r\n"))).records == EXPECTED


def test_a_compressed_file_is_one_by_its_name_or_its_content(tmp_path):
    for name in ("a.txt.GZ", "a.txt"):
        assert texts_of(files=write(tmp_path / name, gzip.compress(b"one\ntwo\n"))) == ["one", "two"]


def test_glob_reads_files_by_name_even_if_their_formats_and_other_columns_differ(tmp_path):
    write(tmp_path / "2.jsonl", '{"en": "c", "de": "d", "other": "text"}\n')
    write(tmp_path / "1.csv", "en,de\na,b\n")
    write(tmp_path / "3.jsonl", '{"en": "e", "de": "f", "other": 5}\n')
    assert [record["source"] for record in load(files=tmp_path / "*.*").records] == ["a", "c", "e"]


def test_name_with_glob_characters_is_a_file(tmp_path):
    write(tmp_path / "a1.jsonl", '{"text": "wrong"}')
    assert texts_of(files=write(tmp_path / "a[1].jsonl", '{"text": "right"}')) == ["right"]


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("none.jsonl", "expected a file, there is none"),
        ("none*.jsonl", "expected files that match, there are none"),
        (".", "got a directory"),
    ],
)
def test_missing_file_is_named(tmp_path, pattern, message):
    with pytest.raises(UserError, match=message):
        load(files=tmp_path / pattern)


# Everything that some system or library takes for the end of a line, within lines that end as they should.
ODD = "a\rb\x0bc\x0cd\x1ce\x1df\x1eg\x85h\u2028i\u2029j"


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize(("name", "before"), [("a.txt", ""), ("a.csv", "text"), ("a.tsv", "text")])
def test_a_line_ends_with_lf_or_crlf_alone(tmp_path, name, before, end):
    lines = [*([before] if before else []), ODD, "second", "\rlast\r"]
    assert texts_of(files=write(tmp_path / name, end.join(lines))) == [ODD, "second", "\rlast\r"]


def test_only_the_last_carriage_return_belongs_to_crlf(tmp_path):
    assert texts_of(files=write(tmp_path / "a.txt", "a\r\r\nb\r\n\r\n")) == ["a\r", "b", ""]


def test_text_has_a_line_a_record_blank_ones_too(tmp_path):
    path = write(tmp_path / "a.txt", 'one\n\n "two" \n\n')
    assert texts_of(files=path) == ["one", "", ' "two" ', ""]


def test_csv_may_hold_commas_quotes_and_lines_in_quoted_cells(tmp_path):
    path = write(tmp_path / "a.csv", 'text,x\n"a, ""b""\r\n\n\rc",1\nd"e,2\n\n  \nf,\n')
    assert texts_of(files=path) == ['a, "b"\r\n\n\rc', 'd"e', "f"]


def test_csv_may_hold_long_cells(tmp_path):
    assert texts_of(files=write(tmp_path / "a.csv", f"text\n{'x' * 200_000}\n")) == ["x" * 200_000]


def test_tsv_is_never_quoted_and_blank_lines_are_no_rows(tmp_path):
    assert texts_of(files=write(tmp_path / "a.tsv", 'text\n"a\n\n""b"\n')) == ['"a', '""b"']


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", "text,x,x,text\na,b,c,d\n"),
        ("a.tsv", "text\tx\tx\ttext\na\tb\tc\td\n"),
        ("a.jsonl", '{"text": "a", "x": 1, "x": 2, "text": "d"}\n'),
        ("a.parquet", None),
    ],
)
def test_a_name_that_several_columns_have_names_none_of_them(tmp_path, name, content):
    if content is None:
        pq.write_table(pa.table([PAIRS[0], PAIRS[1]], names=["text", "text"]), path := tmp_path / name)
    else:
        path = write(tmp_path / name, content)
    with pytest.raises(UserError, match=r"column 'text': expected one column of this name, got 2; rename"):
        texts_of(files=path)


@pytest.mark.parametrize("name", ["a.csv", "a.tsv"])
def test_columns_that_are_not_read_may_share_a_name(tmp_path, name):
    content = ",text,x,,x\n1,a,b,c,d\n".replace(",", "," if name == "a.csv" else "\t")
    assert texts_of(files=write(tmp_path / name, content)) == ["a"]
    assert texts_of(files=write(tmp_path / "a.json", '{"x": 1, "x": {}, "text": "a"}')) == ["a"]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.txt", "one\rtwo\r"),
        ("a.txt", "one\r"),
        ("a.csv", "text,x\ra,1\rb,2\r"),
        ("a.csv", 'text,x\r"a\nb",1\r'),
        ("a.tsv", "text\tx\ra\t1\r"),
        ("a.conll", "a\tO\rb\tO\r"),
    ],
)
def test_the_ends_of_lines_of_old_macs_are_refused_in_one_line(tmp_path, name, content):
    path = write(tmp_path / name, content)
    with pytest.raises(UserError, match="got carriage returns alone, as old Macs wrote them; save") as caught:
        sentences(path) if name == "a.conll" else texts_of(files=path)
    assert str(caught.value).startswith(f"{path}: ")


def test_a_header_of_csv_may_hold_line_ends_of_windows(tmp_path):
    assert texts_of(files=write(tmp_path / "a.csv", '"x\r\ny",text\r\n1,a\r\n')) == ["a"]


@pytest.mark.parametrize(
    "content",
    [
        '{"text": "a"}\n{"text": "b"}\n',
        '\n{"text": "a"}\n\n \t{"text": "b"}',
        '{"text": "a"} {"text": "b"}',
        '{"text": "a"}\r{"text": "b"}\r',
        '{\n  "text": "a"\n}\n{\n  "text": "b"\n}\n',
        '[{"text": "a"},\n {"text": "b"}]\n',
        '["a", "b"]',
        '"a"\n"b"\n',
    ],
)
@pytest.mark.parametrize("name", ["a.json", "a.jsonl"])
def test_json_is_a_list_or_one_record_after_the_other(tmp_path, name, content):
    assert texts_of(files=write(tmp_path / name, content)) == ["a", "b"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", "", "expected at least one record, got none"),
        ("a.jsonl", "\n\n", "expected at least one record"),
        ("a.jsonl.gz", "", "expected at least one record"),
        ("a.json", "[]", "expected at least one record"),
        ("a.csv", "", "expected at least one record"),
        ("a.csv", "en,de\n", "expected at least one record"),
        ("a.txt", "", "expected at least one record"),
        ("a.parquet", FRAME[:0].to_parquet(), "expected at least one record"),
        (
            "a.jsonl",
            '{"en": "a", "de": "b"}\n\n{"en": "a"\n',
            r"line 3: expected JSON, got '\{\"en\": \"a\"' \(Expecting ',' delimiter\)",
        ),
        ("a.jsonl", '{"en": "a", "de": "b"}\n{"en": "a\n", "de": "b"}\n', "line 2: .*Invalid control char"),
        ("a.jsonl", '{"en": "a", "de": "b"}\nnot so\n', "line 2: expected JSON, got 'not so'"),
        ("a.jsonl", '{"en": "a", "de": "b"},\n', r"line 1: expected JSON, got ',' \(Expecting value"),
        ("a.jsonl", '{"en": "a", "de": "b"}\nnull\n', r"line 2: expected a record \{...\}, got None"),
        ("a.jsonl", "[" * 100_000, r"line 1: expected JSON, got '\[\[.*recursion"),
        ("a.jsonl", '{"n": ' + "1" * 10_000, "line 1: expected JSON, .*limit"),
        ("a.json", '[{"en": "a"', "line 1: expected JSON, got"),
        (
            "a.json",
            '[{"en": "a", "de": "b"},\n',
            "line 2: expected ] after the list, got the end of the file",
        ),
        ("a.json", '[{"en": "a", "de": "b"}]\n[]', r"line 2: expected JSON, got '\[\]' \(the list has ended"),
        ("a.csv", "en,de\na,b\nc,d,e\n", "line 3: expected as many cells as the header has, 2, got 3; quote"),
        ("a.csv", 'en,de\n"a\n",b\nc,d,\n', "line 4: expected as many cells as the header has"),
        ("a.csv", 'en,de\na,b\n"c" d,e\n', "line 3: expected csv, got: ',' expected after '\"'; double"),
        ("a.csv", 'en,de\na,b\n"c,d\ne,f\n', "line 3: expected csv, got: unexpected end of data"),
        ("a.tsv", "en\tde\na\tb\tc\n", "line 2: expected as many cells .* a cell of tsv holds no tab"),
        ("a.csv", 'en,de\n"",b\n', "record 1, column 'en': expected text, got nothing"),
        ("a.csv", "en,de\na\n", "record 1, column 'de': expected text, got nothing"),
        ("a.parquet", "text", "expected parquet, got"),
        ("a.jsonl.gz", None, "expected a file that can be read, got: Not a gzipped file"),
        ("a.jsonl.gz", gzip.compress(b"{}", mtime=0)[:-9], "expected a file that can be read, got"),
        (
            "a.tsv",
            "en\tde\ngr\udcfcn\tb\n".encode(errors="surrogateescape"),
            "line 2: expected text in UTF-8, got the byte 0xfc; save",
        ),
        ("a.csv", "en,de\n".encode("utf-16"), "line 1: expected text in UTF-8, got the byte 0xff"),
        ("a.xml", "<a/>", "expected one of .jsonl, .json, .csv, .tsv, .txt, .parquet .* got '.xml'$"),
        (
            "a.conll",
            "a O",
            "got '.conll'; words with their tags, one a line, are {conll: FILE, token_column:",
        ),
    ],
)
def test_bad_file_gives_one_line_that_names_it(tmp_path, name, content, message):
    path = tmp_path / name
    if content is None:
        path.write_text(CONTENTS["a.jsonl"])
    elif isinstance(content, bytes):
        path.write_bytes(content)
    else:
        write(path, content)
    with pytest.raises(UserError, match=message) as caught:
        load(files=path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


CHARACTERS = st.characters(exclude_categories=["Cs"]) | st.sampled_from(
    '\r\n\t",\ufeff\u2028\x85\x0b\x0c \\{[]}'
)
"""All that UTF-8 can hold, and often what a format could take for its own."""

TEXTS = st.text(CHARACTERS, max_size=8)


def cells(without):
    """Texts that a format without quotes can hold: an empty one is none, a last CR part of CRLF."""
    allowed = CHARACTERS.filter(lambda character: character not in without)
    return st.text(allowed, max_size=8).filter(lambda text: text and not text.endswith("\r"))


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    return tmp_path_factory.mktemp("formats")


@given(st.lists(cells("\n") | st.just(""), min_size=1), st.sampled_from(["\n", "\r\n"]))
def test_lines_are_read_as_written(directory, lines, end):
    content = "".join(line + end for line in lines)
    assert texts_of(files=write(directory / "a.txt", content.encode("utf-8-sig"))) == lines
    parallel = {"source_file": directory / "a.txt", "target_file": directory / "a.txt"}
    assert load(columns={}, **parallel).records == [{"source": line, "target": line} for line in lines]


ROWS = st.integers(1, 3).flatmap(
    lambda width: st.lists(st.lists(cells("\n\t"), min_size=width, max_size=width), min_size=1, max_size=5)
)


@given(ROWS, st.sampled_from(["\n", "\r\n"]))
def test_tsv_is_read_as_written(directory, rows, end):
    rows = [row for row in rows if len(row) == 1 or "".join(row).strip()]
    names = ("text", "source", "target")[: len(rows[0]) if rows else 1]
    rows = rows or [["x"]]
    content = "".join("\t".join(row) + end for row in [names, *rows])
    path = write(directory / "a.tsv", content.encode("utf-8-sig"))
    assert records_of(names, files=path) == [dict(zip(names, row, strict=True)) for row in rows]


@given(
    st.integers(1, 3).flatmap(
        lambda width: st.lists(
            st.lists(TEXTS.filter(bool), min_size=width, max_size=width), min_size=1, max_size=5
        )
    ),
    st.sampled_from(["\n", "\r\n"]),
    st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
    st.booleans(),
)
def test_csv_is_read_as_written(directory, rows, end, quoting, by_pandas):
    # Without quotes a carriage return right before LF is part of the line's end, as no reader can tell.
    assume(quoting == csv.QUOTE_ALL or end == "\r\n" or not any(row[-1].endswith("\r") for row in rows))
    names = ("text", "source", "target")[: len(rows[0])]
    if by_pandas:
        frame = pd.DataFrame(rows, columns=names)
        content = frame.to_csv(index=False, lineterminator=end, quoting=quoting)
    else:
        buffer = io.StringIO(newline="")
        csv.writer(buffer, lineterminator=end, quoting=quoting).writerows([names, *rows])
        content = buffer.getvalue()
    path = write(directory / "a.csv", content.encode("utf-8-sig"))
    assert records_of(names, files=path) == [dict(zip(names, row, strict=True)) for row in rows]


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**20), 10**20) | st.floats() | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=5,
)

RECORDS = st.lists(
    st.builds(
        lambda text, label, choices, other: {**other, "text": text, "label": label, "choices": choices},
        TEXTS,
        st.integers(-(10**20), 10**20) | TEXTS,
        st.lists(TEXTS, min_size=2, max_size=3),
        st.dictionaries(TEXTS, ANYTHING, max_size=3),
    ),
    min_size=1,
    max_size=5,
)
"""Records that differ in all that is not asked for."""


@given(
    RECORDS, st.booleans(), st.sampled_from([None, 0, 2]), st.sampled_from(["\n", "\r\n"]), st.integers(1, 40)
)
def test_json_is_read_as_written_whatever_else_it_holds_and_wherever_a_chunk_ends(
    directory, records, ascii_alone, indent, end, chunk
):
    columns = ("text", "label", "choices")
    expected = [{name: record[name] for name in columns} for record in records]
    lines = "".join(json.dumps(record, ensure_ascii=ascii_alone) + end for record in records)
    values = end.join(json.dumps(record, ensure_ascii=ascii_alone, indent=indent) for record in records)
    listed = json.dumps(records, ensure_ascii=ascii_alone, indent=indent)
    with patch.object(formats, "_CHUNK", chunk):
        for name, content in (("a.jsonl", lines), ("a.json", values), ("a.json", listed)):
            assert records_of(columns, files=write(directory / name, content.encode("utf-8-sig"))) == expected


@given(
    st.sampled_from(["txt", "tsv", "csv", "json", "jsonl", "jsonl.gz"]),
    st.binary(max_size=30) | st.text(st.sampled_from('text\n\r\t,"{}[]:1\\u')).map(str.encode),
    st.integers(1, 8),
)
def test_whatever_a_file_holds_is_records_or_one_line(directory, suffix, content, chunk):
    path, message = directory / f"b.{suffix}", ""
    path.write_bytes(content)
    with patch.object(formats, "_CHUNK", chunk):
        try:
            assert texts_of(files=path)
        except UserError as error:
            message = str(error)
    assert "\n" not in message
    assert not message or str(path) in message


CONLL = {
    "tabs": "-DOCSTART-\tO\n\nEU\tB-ORG\nrejects\tO\n\n\nNew York\tB-LOC\n",
    "spaces": "-DOCSTART- -X- -X- O\n\nEU NNP B-NP B-ORG\nrejects VBZ  B-VP O \n \nYork NNP B-NP B-LOC",
    "conllu": (
        "# sent_id = 1\n# text = EU rejects\n1-2\tEUrejects\t_\t_\n1\tEU\tx\tB-ORG\n2\trejects\tx\tO\n"
        "2.1\tnothing\tx\tO\n\n# text = New York\n1\tNew York\tx\tB-LOC\n\n"
    ),
}


def sentences(path, **columns):
    return [
        list(zip(*record.values(), strict=True))
        for record in records_of(("tokens", "tags"), conll=path, **columns)
    ]


@pytest.mark.parametrize(
    ("name", "columns"),
    [
        ("tabs", {}),
        ("tabs", {"token_column": 0, "tag_column": 1}),
        ("spaces", {}),
        ("spaces", {"token_column": -4, "tag_column": 3}),
        ("conllu", {"token_column": 1, "tag_column": 3}),
    ],
)
def test_conll_has_a_word_a_line_and_blank_lines_between_sentences(tmp_path, name, columns):
    place = "York" if name == "spaces" else "New York"
    expected = [[("EU", "B-ORG"), ("rejects", "O")], [(place, "B-LOC")]]
    for end in ("\n", "\r\n"):
        path = write(tmp_path / "a.txt", "\ufeff" + CONLL[name].replace("\n", end))
        assert sentences(path, **columns) == expected
    zipped = write(tmp_path / "a.conll.gz", CONLL[name])
    assert sentences(zipped, **columns) == expected


def test_conll_is_read_by_its_columns_whatever_other_sources_call_theirs(tmp_path):
    path = write(tmp_path / "a.conll", CONLL["tabs"])
    records = records_of(("tokens", "tags"), {"tokens": "words", "tags": "ner_tags"}, conll=path)
    assert records[0] == {"tokens": ["EU", "rejects"], "tags": ["B-ORG", "O"]}
    assert len(records_of(("tokens", "tags"), conll=tmp_path / "*.conll", limit=1)) == 1
    with pytest.raises(UserError, match="for the column 'label', got conll with tokens and tags"):
        records_of(("label",), conll=path)


@pytest.mark.parametrize("between", ["\t", " "])
def test_a_word_of_conll_may_begin_with_the_sign_of_comments_and_look_like_a_number_of_conllu(
    tmp_path, between
):
    rows = [("#ner", "B-X"), ("#", "O"), ("1-2", "O"), ("3.5", "O")]
    content = "# a file of three\n\n" + "".join(f"{word}{between}{tag}\n" for word, tag in rows)
    content += f"\n# another one, of one\n#last{between}O\n"
    assert sentences(write(tmp_path / "a", content)) == [rows, [("#last", "O")]]


def test_nothing_but_a_blank_ends_a_column_of_conll(tmp_path):
    path = write(tmp_path / "a", f"{ODD.replace(chr(13), '')}\u00a0x O\n")
    assert sentences(path) == [[(f"{ODD.replace(chr(13), '')}\u00a0x", "O")]]


@pytest.mark.parametrize(
    ("content", "columns", "message"),
    [
        ("", {}, "expected at least one record, got none"),
        ("# nothing\n\n-DOCSTART- O\n\n", {}, "expected at least one record, got none"),
        ("a O\nb\nc O\n", {}, "line 2: expected 2 columns as in the rows before, got 1: 'b'"),
        ("a O\n\nb X O\n", {}, "line 3: expected 2 columns as in the rows before, got 3: 'b X O'"),
        ("#\na O\n", {"tag_column": 2}, "line 2: expected a column 2, which is the tag_column, got 2 col"),
        ("a O\n", {"token_column": -3}, "line 1: expected a column -3, which is the token_column, got 2"),
        ("a\nb\n", {}, "line 1: expected a word and its tag in two columns, got column 0 of 1 for both; say"),
        ("a O\n", {"tag_column": 0}, "in two columns, got column 0 of 2 for both"),
        (b"a O\n\xfc O\n", {}, "line 2: expected text in UTF-8"),
        ("a O\n\nEU X\rrejects O\n", {}, "line 3: expected 2 columns"),
        (
            "EU X\rrejects O\n",
            {},
            "line 1: expected a row that LF or CRLF ends, got a carriage return in 'EU X",
        ),
        ("a\tO\nb\rc\tO\n", {}, "line 2: expected a row that LF or CRLF ends"),
        ("a\tO\nb\t\n", {}, r"line 2: expected a word and its tag, got no tag: 'b\\t'"),
        ("a\tO\n\n\tO\n", {}, "line 3: expected a word and its tag, got no word"),
        ("a\tO\nb\t \n", {}, "line 2: expected a word and its tag, got no tag"),
    ],
)
def test_bad_conll_gives_one_line_that_names_it(tmp_path, content, columns, message):
    path = write(tmp_path / "a.conll", content)
    with pytest.raises(UserError, match=message) as caught:
        sentences(path, **columns)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


@given(
    st.lists(
        st.lists(st.tuples(cells("\r\n\t").filter(str.strip), st.sampled_from(["O", "B-x"])), min_size=1),
        min_size=1,
        max_size=4,
    ),
    st.sampled_from(["\n", "\r\n"]),
)
def test_conll_is_read_as_written(directory, expected, end):
    expected = [[pair for pair in sentence if pair[0] != "-DOCSTART-"] for sentence in expected]
    content = end.join("".join(f"{word}\t{tag}{end}" for word, tag in sentence) for sentence in expected)
    assert sentences(write(directory / "a.conll", content.encode("utf-8-sig"))) == expected
