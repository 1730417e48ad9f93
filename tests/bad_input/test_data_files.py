"""Data files in every format, damaged in many ways: read, or refused by the name of the file."""

import gzip
import json
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nvreg.config import Source
from nvreg.data import load_examples
from tests.bad_input.checking import check_line, check_refused, mistake_of, one_in

RECORDS = [
    {"text": f"a small {word} sees it .", "label": str(number % 2)} for number, word in enumerate("abcdef")
]


def jsonl() -> bytes:
    return b"".join(json.dumps(record).encode() + b"\n" for record in RECORDS)


def table(separator: str) -> bytes:
    rows = ["text,label", *(",".join(record.values()) for record in RECORDS)]
    return "\n".join(row.replace(",", separator) for row in rows).encode() + b"\n"


def parquet() -> bytes:
    return pd.DataFrame(RECORDS).to_parquet()


WHOLE = {
    "jsonl": jsonl(),
    "json": json.dumps(RECORDS).encode(),
    "csv": table(","),
    "tsv": table("\t"),
    "txt": b"".join(record["text"].encode() + b"\n" for record in RECORDS),
    "parquet": parquet(),
    "conll": b"a O\nsmall B\n\ncat O\n\n",
}
WHOLE |= {
    f"{ending}.gz": gzip.compress(WHOLE[ending], mtime=0) for ending in ("jsonl", "json", "csv", "tsv", "txt")
}

DAMAGES = {
    "nothing": lambda whole: b"",
    "blank lines": lambda whole: b"\n \n\t\n",
    "first half": lambda whole: whole[: len(whole) // 2],
    "all but the last byte": lambda whole: whole[:-1],
    "first four bytes": lambda whole: whole[:4],
    "second half": lambda whole: whole[len(whole) // 2 :],
    "zeros": lambda whole: bytes(len(whole)),
    "a zero inside": lambda whole: whole[:20] + b"\0" + whole[20:],
    "noise": lambda whole: bytes((7 * at * at + 13) % 256 for at in range(300)),
    "noise inside": lambda whole: whole[:10] + bytes(range(256)) + whole[10:],
    "Latin-1": lambda whole: whole + "é ü ñ".encode("latin-1"),
    "UTF-16": lambda whole: whole.decode("utf-8", "replace").encode("utf-16"),
    "UTF-8 with a mark": lambda whole: b"\xef\xbb\xbf" + whole,
    "old Macs": lambda whole: whole.replace(b"\n", b"\r"),
    "a PNG": lambda whole: b"\x89PNG\r\n\x1a\n" + whole,
    "a zip": lambda whole: b"PK\x03\x04" + whole,
    "another gzip": lambda whole: gzip.compress(whole[:30])[:-6],
    "HTML": lambda whole: b"<!DOCTYPE html>\n<html><body>404</body></html>\n",
    "deep JSON": lambda whole: b"[" * 100_000,
    "a long number": lambda whole: b'{"text": ' + b"9" * 10_000 + b"}\n",
    "no text but numbers": lambda whole: b'{"text": 3, "label": 1}\n',
    "null": lambda whole: b'{"text": null, "label": null}\n',
    "a list in the column": lambda whole: b'{"text": ["a"], "label": {"a": 1}}\n',
    "other columns": lambda whole: b'{"txt": "a", "lbl": "b"}\n',
    "half a surrogate": lambda whole: b'{"text": "\\ud800", "label": "a"}\n',
    "a column twice": lambda whole: b'{"text": "a", "text": "b", "label": "a"}\n',
    "an open quote": lambda whole: b'text,label\n"a,b\n',
    "too many cells": lambda whole: b"text,label\na,b,c,d\n",
    "a header alone": lambda whole: b"text,label\n",
    "control characters": lambda whole: b'{"text\x1b[2J": "\\u001b[2J", "label": "\\u202e"}\n',
    "a Git LFS pointer": lambda whole: b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n",
}

CASES = [(ending, damage) for ending in WHOLE for damage in DAMAGES]


def source_of(path: Path) -> Source:
    return Source(conll=str(path)) if path.suffix == ".conll" else Source(files=str(path))


def columns_of(path: Path) -> list[str]:
    return {".conll": ["tokens", "tags"], ".txt": ["text"]}.get(
        Path(path.name.removesuffix(".gz")).suffix, ["text", "label"]
    )


@pytest.mark.parametrize("ending", WHOLE)
def test_the_file_that_is_damaged_can_be_read(ending, tmp_path):
    path = tmp_path / f"a.{ending}"
    path.write_bytes(WHOLE[ending])
    assert len(load_examples(source_of(path), {}, columns_of(path))) == (2 if ending == "conll" else 6)


@pytest.mark.parametrize("case", one_in(10, CASES, [": ".join(case) for case in CASES]))
def test_a_damaged_file_is_read_or_refused_by_name(case, tmp_path):
    ending, damage = case
    path = tmp_path / f"a.{ending}"
    path.write_bytes(DAMAGES[damage](WHOLE[ending]))
    if message := mistake_of(load_examples, source_of(path), {}, columns_of(path)):
        check_line(message, str(path))


@given(st.sampled_from(sorted(WHOLE)), st.data())
@settings(max_examples=100)
def test_any_bytes_are_read_or_refused_by_name(tmp_path_factory, ending, data):
    whole = WHOLE[ending]
    start, end = sorted(data.draw(st.tuples(*[st.integers(0, len(whole))] * 2)))
    path = tmp_path_factory.mktemp("data") / f"a.{ending}"
    path.write_bytes(whole[:start] + data.draw(st.binary(max_size=20)) + whole[end:])
    if message := mistake_of(load_examples, source_of(path), {}, columns_of(path)):
        check_line(message, str(path))


PLACES = {
    "a directory": "home",
    "nothing": "home/none.jsonl",
    "no match": "home/*.none",
    "an unknown format": "tiny.yaml",
    "no name": "",
    "a device": "/dev/null",
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("key", ["data.in_domain.train", "data.in_domain.test", "data.out_of_domain.0.test"])
def test_a_place_without_examples_is_named(place, key, tiny_experiment, tmp_path):
    name = PLACES[place]
    arguments = [
        "sweep",
        "--config",
        tiny_experiment,
        "--output",
        tmp_path / "run",
        "--set",
        f"{key}={{files: '{name}'}}",
    ]
    check_refused(tmp_path, arguments, name)


def test_parallel_files_of_different_lengths_are_named(tiny_experiment, tmp_path):
    (tmp_path / "a.en").write_text("a\nb\n")
    (tmp_path / "a.de").write_text("a\n")
    written = f"{{source_file: {tmp_path}/a.en, target_file: {tmp_path}/a.de}}"
    arguments = ["sweep", "--config", tiny_experiment, "--output", tmp_path / "run"]
    check_refused(
        tmp_path, [*arguments, "--set", f"data.in_domain.test={written}"], "a.en", "a.de", "2 in", "1 in"
    )
