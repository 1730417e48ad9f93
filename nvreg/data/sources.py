"""Text and labels from files and the hub as the records a task asks for."""

from __future__ import annotations

import csv
import glob
import gzip
import json
import os
import random
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from nvreg.data.columns import Columns, values_of
from nvreg.data.examples import Examples, Record
from nvreg.errors import UserError

if TYPE_CHECKING:
    from datasets import Dataset

    from nvreg.config import Source

_READERS: dict[str, tuple[str, dict[str, Any]]] = {
    ".jsonl": ("json", {}),
    ".json": ("json", {}),
    ".csv": ("csv", {"sep": ","}),
    ".tsv": ("csv", {"sep": "\t", "quoting": csv.QUOTE_NONE}),
    ".parquet": ("parquet", {"batch_size": 10_000}),  # the default is 0 for an empty file, and an error
    ".txt": ("text", {"encoding": "utf-8-sig"}),
}

CONVERTED = "refs/convert/parquet"
"""The revision of a hub data set in which every config is a folder."""


def load_examples(source: Source, columns: Mapping[str, str], required: Sequence[str]) -> Examples:
    """Read the examples of a source.

    ``files`` is one file or a glob, read in the order of their names: parquet, or, also with .gz, jsonl, json
    (a list of records), csv (quoted as usual), tsv (never quoted) and txt (one record a line, column "text").
    An empty cell of csv or tsv is a missing text, every other one a text, "1" too.

    The column "label" holds a whole number or a text, "choices" a list of texts, any other text. Numbers that
    the data set has names for become the names.

    ``source_file`` and ``target_file`` hold one text a line, which become the columns "source" and "target".
    Files are read anew each time; a hub data set stays in the cache of `datasets`. Its revision
    refs/convert/parquet is the hub's own conversion, which data sets that are scripts have too.

    Args:
        source: where the records are, and the limit: the first ones, or random ones in their order where a
            seed is given. Its columns go before ``columns``.
        columns: the name in the source of each of the task's columns, where they differ; "a.b" is b inside a.
        required: the task's names of the columns to read.

    Raises:
        UserError: if a file or data set is missing, empty or malformed, or has not these columns; if a value
            is not what its column holds; if parallel files differ in their number of lines.
    """
    mapping = {**columns, **source.columns}
    wanted = {column: mapping.get(column, column) for column in required}
    if source.hub:
        values = _from_hub(source, wanted)
    elif source.source_file and source.target_file:
        values = _parallel({"source": source.source_file, "target": source.target_file}, required)
    else:
        values = _from_files(source.files or "", wanted)
    records: list[Record] = [dict(zip(required, row, strict=True)) for row in zip(*values, strict=True)]
    return Examples(_limited(records, source.limit, source.seed))


def _limited(records: list[Record], limit: int | None, seed: int | None) -> list[Record]:
    if limit is None or limit >= len(records):
        return records
    if seed is None:
        return records[:limit]
    return [records[index] for index in sorted(random.Random(seed).sample(range(len(records)), limit))]


def _parallel(files: Mapping[str, str], required: Sequence[str]) -> list[list[Any]]:
    if unknown := [column for column in required if column not in files]:
        raise UserError(
            f"expected files or hub for the column {unknown[0]!r}, received source_file and target_file, "
            "which hold source and target"
        )
    texts = {column: _from_files(files[column], {"text": "text"}, as_lines=True)[0] for column in required}
    counts = {files[column]: len(lines) for column, lines in texts.items()}
    if len(set(counts.values())) > 1:
        received = " and ".join(f"{count} in {path}" for path, count in counts.items())
        raise UserError(f"parallel files: expected the same number of lines, received {received}")
    return list(texts.values())


def _from_files(pattern: str, columns: Columns, as_lines: bool = False) -> list[list[Any]]:
    joined: list[list[Any]] = [[] for _ in columns]
    for path in _paths(pattern):
        for column, values in zip(joined, _from_file(path, columns, as_lines), strict=True):
            column.extend(values)
    return joined


def _paths(pattern: str) -> list[str]:
    if os.path.isfile(pattern):
        return [pattern]
    if os.path.isdir(pattern):
        raise UserError(f"{pattern}: expected a file or a glob of files, received a directory")
    if not glob.has_magic(pattern):
        raise UserError(f"{pattern}: expected a file, there is none")
    paths = sorted(path for path in glob.glob(pattern, recursive=True) if os.path.isfile(path))
    if not paths:
        raise UserError(f"{pattern}: expected files that match, there are none")
    return paths


def _from_file(path: str, columns: Columns, as_lines: bool) -> list[list[Any]]:
    suffix = ".txt" if as_lines else os.path.splitext(path.removesuffix(".gz"))[1].lower()
    if suffix not in _READERS:
        raise UserError(f"{path}: expected one of {', '.join(_READERS)} (or .gz of it), received {suffix!r}")
    builder, options = _READERS[suffix]
    # A cache of its own: the shared one would go by time and size, and return what a file held before.
    with tempfile.TemporaryDirectory() as cache, _quiet():
        try:
            dataset = _load(builder, path, cache, options)
        except Exception as error:  # each reader raises its own
            reason = error.__cause__ or error
            if _finds_nothing(reason):
                raise UserError(f"{path}: expected at least one record, the file is empty") from error
            mistake = (suffix == ".jsonl" and _malformed_line(path)) or _one_line(reason)
            raise UserError(f"{path}: expected {suffix[1:]}, received: {mistake}") from error
        return values_of(dataset, columns, path)


def _load(builder: str, path: str, cache: str, options: dict[str, Any]) -> Dataset:
    import datasets
    import pandas as pd

    if builder == "csv":
        # "12" and "NA" are text, an empty cell is none, and a row longer than the header is no index.
        options = {**options, "index_col": False, "keep_default_na": False, "na_values": [""]}
        header = pd.read_csv(path, nrows=0, **options).columns
        options["features"] = datasets.Features(dict.fromkeys(header, datasets.Value("string")))
    return datasets.load_dataset(
        builder, data_files=[glob.escape(path)], split="train", cache_dir=cache, **options
    )


def _malformed_line(path: str) -> str | None:
    """Return the first line that is not JSON; the reader knows it only within a block of the file."""
    opener: Any = gzip.open if path.endswith(".gz") else open
    with suppress(OSError, EOFError), opener(path, "rb") as lines:
        for number, line in enumerate(lines, start=1):
            try:
                json.loads(line.strip() or b"null")
            except ValueError as error:
                return f"line {number}: {error}"
    return None


def _finds_nothing(error: BaseException) -> bool:
    from datasets.arrow_writer import SchemaInferenceError
    from pandas.errors import EmptyDataError

    nothing = isinstance(error, StopIteration | EmptyDataError | SchemaInferenceError)
    return nothing or "corresponds to no data" in str(error)


def _from_hub(source: Source, columns: Columns) -> list[list[Any]]:
    import datasets

    name, split, revision = source.hub or "", source.split, source.revision
    config = {"data_dir" if revision == CONVERTED else "name": source.config}
    with _quiet():
        try:
            dataset = datasets.load_dataset(name, split=split, revision=revision, **config)
        except ConnectionError as error:
            raise UserError(
                f"{name}: expected a data set of the hub, which cannot be reached ({_one_line(error)}); "
                "download it elsewhere and give its path as files"
            ) from error
        except Exception as error:  # of the hub, of the data set's files, of their reader
            reason = error.__cause__ or error
            raise UserError(
                f"{name}: expected a data set of the hub, received: {_one_line(reason)}"
            ) from error
        if isinstance(dataset, datasets.DatasetDict):
            raise UserError(f"{name}: expected a split, one of {', '.join(dataset)}, received none")
        if not len(dataset):
            raise UserError(f"{name}: expected at least one record, split {split} is empty")
        return values_of(dataset, columns, name)


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence `datasets`, whose errors arrive as exceptions all the same, and make lossy reading an error."""
    import datasets
    from pandas.errors import ParserWarning

    verbosity, bars = datasets.logging.get_verbosity(), datasets.are_progress_bars_disabled()
    datasets.logging.set_verbosity(datasets.logging.CRITICAL)
    datasets.disable_progress_bars()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", ParserWarning)
            yield
    finally:
        datasets.logging.set_verbosity(verbosity)
        if not bars:
            datasets.enable_progress_bars()


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
