"""Files of text as records: txt, jsonl, json, csv, tsv and CoNLL, read no further than they are asked for."""

from __future__ import annotations

import csv
import glob
import gzip
import io
import json
import os
import re
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext, suppress
from functools import partial
from typing import Any, TextIO

from nvreg.config.sections import is_address
from nvreg.data.arrow import parquet_records
from nvreg.data.columns import Columns, by_name
from nvreg.data.stores import matching_addresses, open_address, reading
from nvreg.errors import UserError

Reader = Callable[[TextIO, str], Iterator[Mapping[str, Any]]]
"""What reads the records of an open file; the path is for messages."""

NumberedRow = tuple[int, list[str]]
"""The cells of a row, after the number of the line that it begins on."""

_CHUNK = 1 << 18
"""Characters of JSON that are read at a time, unless one record is longer."""

_CUT = 16
"""Characters before the end of a chunk that may be half of an escape or of a word such as -Infinity."""

PARQUET = ".parquet"
"""The end of the name of a file that has columns with types."""

_CONLL = (".conll", ".conllu", ".iob", ".iob2", ".bio")
"""Ends of the names that files with a word and its tag a line often have."""

_CONLL_HINT = (
    "; words with their tags, one a line, are {conll: FILE, token_column: 0, tag_column: -1} in place of "
    "files, and the same in quotes after --data"
)

_BLANKS = " \t\n\r"
"""What may stand between values of JSON, beside the commas of a list."""

_BRACKETS = {("[", "beginning"): "list", ("]", "list"): "end"}
"""The place in a file of JSON that a bracket leads to from another place."""

_CELL = 2**31 - 1
"""The longest cell of csv; Python's own limit of 131,072 characters is less than some documents have."""

_BESIDE_WORDS = re.compile(r"\d+[-.]\d+")
"""What CoNLL-U numbers, in its first column, that is no word: several words as one, and words left out."""

_LONE_RETURN = re.compile("\r(?!\n)")
"""A carriage return that ends no line."""

_CARRIAGE_RETURN = "\udc0d"
"""What such a carriage return is to the reader of csv; no text in UTF-8 holds this character."""


def matching_files(pattern: str) -> list[str]:
    """Return the file of this name, or else the files that match it as a glob, by name.

    Raises:
        UserError: if there is none.
    """
    if is_address(pattern):
        return matching_addresses(pattern)
    if os.path.isfile(pattern):
        return [pattern]
    if os.path.isdir(pattern):
        raise UserError(f"{pattern}: expected a file or a glob of files, got a directory")
    if not glob.has_magic(pattern):
        raise UserError(f"{pattern}: expected a file, there is none")
    paths = sorted(path for path in glob.glob(pattern, recursive=True) if os.path.isfile(path))
    if not paths:
        raise UserError(f"{pattern}: expected files that match, there are none")
    return paths


def file_records(path: str, columns: Columns) -> Iterator[Mapping[str, Any]]:
    """Yield the records of a file, in the format that its name ends in, as far as they are asked for.

    Args:
        path: the path of the file.
        columns: what will be looked at.

    Raises:
        UserError: if the format is unknown, or the file cannot be read or is malformed.
    """
    suffix = suffix_of(path)
    if suffix == PARQUET:
        return parquet_records(path, columns)
    if suffix not in _READERS:
        known = ", ".join([*_READERS, PARQUET])
        hint = _CONLL_HINT if suffix in _CONLL else ""
        raise UserError(f"{path}: expected one of {known} (text also with .gz), got {suffix!r}{hint}")
    return _read(path, _READERS[suffix])


def suffix_of(path: str) -> str:
    """Return the end of a file's name that tells its format, in small letters and without ``.gz``."""
    return os.path.splitext(path.lower().removesuffix(".gz"))[1]


def has_records(path: str) -> bool:
    """Return whether a file's name ends as those that `file_records` reads."""
    return suffix_of(path) in (*_READERS, PARQUET)


def text_lines(pattern: str) -> Iterator[str]:
    """Yield the lines of a file, or of the files that match a glob, whatever they are called.

    A line ends with LF or CRLF and nowhere else, whatever Unicode takes for the end of a line.

    Raises:
        UserError: if there is no such file, or it cannot be read.
    """
    for path in matching_files(pattern):
        for record in _read(path, _text):
            yield record["text"]


def conll_records(path: str, token_column: int, tag_column: int) -> Iterator[Mapping[str, Any]]:
    """Yield the sentences of a file with a word a line: the columns "tokens" and "tags", both lists.

    Blank lines, and those of ``-DOCSTART-``, end a sentence. Columns are parted by tabs, or by spaces where
    the first row has no tab, and are as many in every row. A line that begins with # and has not as many is a
    comment. What CoNLL-U has beside the words, in rows numbered 3-4 or 5.1, is left out.

    Args:
        path: the path of the file, whatever it is called.
        token_column: the column of the words, counted from 0 or, below 0, from the end.
        tag_column: the column of their tags.

    Raises:
        UserError: if the file cannot be read, or a row has not these columns or no word or tag in them.
    """
    yield from _read(path, partial(_conll, token=token_column, tag=tag_column))


def _read(path: str, reader: Reader) -> Iterator[Mapping[str, Any]]:
    with reading(path) if is_address(path) else nullcontext():
        try:
            with _open(path, "rt", encoding="utf-8-sig", newline="\n") as file:
                yield from reader(file, path)
        except UnicodeDecodeError:
            raise UserError(_undecodable(path)) from None
        except (OSError, EOFError, zlib.error) as error:
            if is_address(path):
                raise
            raise UserError(f"{path}: expected a file that can be read, got: {error}") from error


def _open(path: str, mode: str, **options: str) -> Any:
    if is_address(path):
        return _open_address(path, mode, **options)
    with open(path, "rb") as file:
        compressed = path.lower().endswith(".gz") or file.read(2) == b"\x1f\x8b"
    opener: Any = gzip.open if compressed else open
    return opener(path, mode, **options)


def _open_address(address: str, mode: str, **options: Any) -> Any:
    file = open_address(address)
    with reading(address):
        compressed = address.lower().endswith(".gz") or file.read(2) == b"\x1f\x8b"
        file.seek(0)
    if compressed:
        return gzip.open(file, mode, **options)
    return io.TextIOWrapper(file, **options) if mode == "rt" else file


def _undecodable(path: str) -> str:
    """Return the message for the first line that is not UTF-8; a decoder knows only its place in a block."""
    # The file may break off before its first such line.
    with suppress(OSError, EOFError, zlib.error), _open(path, "rb") as lines:
        for number, line in enumerate(lines, start=1):
            try:
                line.decode()
            except UnicodeDecodeError as error:
                byte = f"the byte 0x{line[error.start]:02x}"
                return f"{path}, line {number}: expected text in UTF-8, got {byte}; save the file as UTF-8"
    return f"{path}: expected text in UTF-8"


def _lines(file: TextIO, path: str) -> Iterator[str]:
    for number, line in enumerate(file):
        if line.endswith("\n"):
            yield line[:-1].removesuffix("\r")
            continue
        if "\r" in line and not number:
            raise UserError(_of_old_macs(path))
        yield line


def _of_old_macs(path: str) -> str:
    return (
        f"{path}: expected lines that end with LF or CRLF, got carriage returns alone, as old Macs wrote "
        "them; save the file with LF"
    )


def _text(file: TextIO, path: str) -> Iterator[Mapping[str, Any]]:
    return ({"text": line} for line in _lines(file, path))


def _csv(file: TextIO, path: str) -> Iterator[Mapping[str, Any]]:
    return _records(_csv_rows(file, path), path, "quote a cell that holds commas")


def _tsv(file: TextIO, path: str) -> Iterator[Mapping[str, Any]]:
    rows = (
        (number, line.split("\t") if line else []) for number, line in enumerate(_lines(file, path), start=1)
    )
    return _records(rows, path, "a cell of tsv holds no tab")


def _csv_rows(file: TextIO, path: str) -> Iterator[NumberedRow]:
    # The reader takes a carriage return for the end of a row wherever it stands.
    rows = csv.reader((_LONE_RETURN.sub(_CARRIAGE_RETURN, line) for line in file), strict=True)
    csv.field_size_limit(_CELL)
    number = 1
    try:
        for row in rows:
            yield number, [cell.replace(_CARRIAGE_RETURN, "\r") for cell in row]
            number = rows.line_num + 1
    except csv.Error as error:
        raise UserError(
            f"{path}, line {number}: expected csv, got: {error}; double every quote inside a quoted cell"
        ) from error


def _records(rows: Iterator[NumberedRow], path: str, hint: str) -> Iterator[Mapping[str, Any]]:
    """Yield rows by the names in the first one; blank ones are skipped, and an empty cell holds None."""
    header = next((row for _, row in rows if row), [])
    if any(map(_LONE_RETURN.search, header)):
        raise UserError(_of_old_macs(path))
    for number, row in rows:
        if not row or (len(header) > 1 and len(row) == 1 and not row[0].strip()):
            continue
        if len(row) > len(header):
            raise UserError(
                f"{path}, line {number}: expected as many cells as the header has, {len(header)}, "
                f"got {len(row)}; {hint}"
            )
        cells = [cell or None for cell in row] + [None] * (len(header) - len(row))
        yield by_name(zip(header, cells, strict=True))


def _json(file: TextIO, path: str) -> Iterator[Mapping[str, Any]]:
    """Yield the records of a list, or one after the other; a text is a record with the column "text"."""
    for number, value in _json_values(file, path):
        if isinstance(value, str):
            yield {"text": value}
        elif isinstance(value, dict):
            yield value
        else:
            raise UserError(f"{path}, line {number}: expected a record {{...}}, got {value!r:.80}")


def _json_values(file: TextIO, path: str) -> Iterator[tuple[int, Any]]:
    """Yield each value after the number of its first line, with one chunk of the file in memory."""
    decode = json.JSONDecoder(object_pairs_hook=by_name).raw_decode
    text, start, number, place = "", 0, 1, "beginning"
    while True:
        while start < len(text) and (text[start] in _BLANKS or (text[start] == "," and place == "list")):
            number += text[start] == "\n"
            start += 1
        if start == len(text):
            text, start = file.read(_CHUNK), 0
            if not text and place == "list":
                raise UserError(f"{path}, line {number}: expected ] after the list, got the end of the file")
            if not text:
                return
        elif (text[start], place) in _BRACKETS:
            place = _BRACKETS[text[start], place]
            start += 1
        else:
            try:
                if place == "end":
                    raise ValueError("the list has ended")
                value, end = decode(text, start)
            except (ValueError, RecursionError) as error:
                if _may_be_cut(error, text) and (more := file.read(max(_CHUNK, len(text) - start))):
                    text, start = text[start:] + more, 0
                    continue
                got = text[start : start + 80].split("\n")[0]
                reason = getattr(error, "msg", error)
                raise UserError(f"{path}, line {number}: expected JSON, got {got!r} ({reason})") from error
            yield number, value
            number += text.count("\n", start, end)
            start, place = end, place if place == "list" else "values"


def _may_be_cut(error: Exception, text: str) -> bool:
    """Return whether more of the file may mend what is no JSON."""
    if not isinstance(error, json.JSONDecodeError):
        return False
    return error.pos >= len(text) - _CUT or error.msg.startswith("Unterminated string")


def _conll(file: TextIO, path: str, *, token: int, tag: int) -> Iterator[Mapping[str, Any]]:
    width, separator = 0, " "
    for block in _blocks(file, path):
        if not width and (first := next((row for row in block if not row[1].startswith("#")), None)):
            number, line = first
            separator = "\t" if "\t" in line else " "
            width = len(_cells(line, separator))
            _check_columns(width, token, tag, f"{path}, line {number}")
        words = []
        for number, line in block:
            where, cells = f"{path}, line {number}", _cells(line, separator)
            if _is_word(cells, width, token, where):
                _check_row(line, cells[token], cells[tag], where)
                words.append(cells)
        if words:
            yield {"tokens": [cells[token] for cells in words], "tags": [cells[tag] for cells in words]}


def _blocks(file: TextIO, path: str) -> Iterator[list[tuple[int, str]]]:
    """Yield the lines of every sentence, each after its number."""
    block: list[tuple[int, str]] = []
    for number, line in enumerate(_lines(file, path), start=1):
        if line.strip() and not line.startswith("-DOCSTART-"):
            block.append((number, line))
        elif block:
            yield block
            block = []
    if block:
        yield block


def _cells(line: str, separator: str) -> list[str]:
    return line.split("\t") if separator == "\t" else [cell for cell in line.split(" ") if cell]


def _check_columns(width: int, token: int, tag: int, where: str) -> None:
    for key, column in (("token_column", token), ("tag_column", tag)):
        if not -width <= column < width:
            raise UserError(f"{where}: expected a column {column}, which is the {key}, got {width} columns")
    if token % width == tag % width:
        raise UserError(
            f"{where}: expected a word and its tag in two columns, got column {token % width} of {width} "
            "for both; say under token_column and tag_column which ones they are"
        )


def _is_word(cells: list[str], width: int, token: int, where: str) -> bool:
    if len(cells) == width:
        return not (token % width and _BESIDE_WORDS.fullmatch(cells[0]))
    if cells[0].startswith("#"):
        return False
    raise UserError(
        f"{where}: expected {width} columns as in the rows before, got {len(cells)}: {' '.join(cells)!r:.80}"
    )


def _check_row(line: str, word: str, tag: str, where: str) -> None:
    if "\r" in line:
        raise UserError(
            f"{where}: expected a row that LF or CRLF ends, got a carriage return in {line!r:.80}"
        )
    for name, cell in (("word", word), ("tag", tag)):
        if not cell.strip():
            raise UserError(f"{where}: expected a word and its tag, got no {name}: {line!r:.80}")


_READERS: Mapping[str, Reader] = {
    ".jsonl": _json,
    ".json": _json,
    ".csv": _csv,
    ".tsv": _tsv,
    ".txt": _text,
}
"""Formats of text by the end of a file's name."""
