"""The examples of one data set, under a task's own column names, and how they are read."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import islice
from typing import TYPE_CHECKING, Any

from nvreg.data.arrow import dataset_records, is_saved, open_hub, open_saved
from nvreg.data.columns import Columns, MissingColumnError, Record, pick
from nvreg.data.formats import conll_records, file_records, matching_files, text_lines
from nvreg.errors import UserError

if TYPE_CHECKING:
    from nvreg.config import Source

NO_LABEL = "-1"
"""The label that data sets of the hub have where they keep the labels to themselves."""


@dataclass(frozen=True)
class Examples:
    """Records, one an example, in the order of their source, and what messages call that source."""

    records: list[Record]
    origin: str = ""

    def __len__(self) -> int:
        return len(self.records)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the records in order, whichever file and format they came from."""
        digest = hashlib.sha256()
        for record in self.records:
            digest.update(json.dumps(record, sort_keys=True).encode() + b"\n")
        return digest.hexdigest()


def load_examples(
    source: Source,
    columns: Mapping[str, str],
    required: Sequence[str],
    optional: str | None = None,
    absent: Collection[str] = (),
) -> Examples:
    """Read the examples of a source, record by record, and of each record what is asked for (docs/tasks.md).

    ``files`` is one file or a glob, read in the order of their names. ``source_file`` and ``target_file``
    hold one text a line, which become the columns "source" and "target"; the sentences of ``conll`` become
    the columns "tokens" and "tags". Numbers that a data set has names for become the names. Files are read
    anew each time; a hub data set stays in the cache of `datasets`, unless it is streamed. Whatever place
    the records are from, their fingerprint is the same.

    Args:
        source: where the records are, the part that is taken of them, and the limit: the first ones, after
            which nothing is read, or random ones in their order where a seed is given. Its columns go before
            ``columns``.
        columns: the name in the source of each of the task's columns, where they differ; "a.b" is b inside a.
        required: the task's names of the columns to read.
        optional: one of them that no record has where the source has nothing there and does not name it.
        absent: what stands for nothing in that column where all of it is nothing.

    Raises:
        UserError: if a file or data set is missing, empty or malformed, or has not these columns; if a value
            is not what its column holds; if parallel files differ in their number of lines.
    """
    mapping = {**columns, **source.columns}
    wanted = {column: mapping.get(column, column) for column in required}
    if optional is None or optional in source.columns:
        return _examples(source, wanted)
    examples = _examples(source, wanted, optional)
    values = [record.get(optional) for record in examples.records]
    if all(value is None or str(value) in absent for value in values):
        records = [_without(optional, record) for record in examples.records]
        return Examples(records, examples.origin)
    if None in values:
        raise UserError(
            f"{examples.origin}: expected a column {wanted[optional]!r} in every record or in none, got it "
            "in some; put those without into a file of their own"
        )
    return examples


def _without(column: str, values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name != column}


def _examples(source: Source, columns: Columns, optional: str | None = None) -> Examples:
    read, origin = _reader(source, columns, optional), _origin(source)
    if source.part is not None:
        read = _part(read, *source.part)
    if source.limit is not None and source.seed is not None:
        return Examples(_drawn(read, source.limit, source.seed), origin)
    return Examples(list(islice(read(), source.limit)), origin)


def _origin(source: Source) -> str:
    if source.hub:
        return f"{source.hub}, split {source.split}"
    if source.source_file and source.target_file:
        return f"{source.source_file} and {source.target_file}"
    split = f", split {source.split}" if source.split else ""
    return f"{source.conll or source.files or ''}{split}"


def _part(read: Callable[[], Iterator[Record]], start: float, end: float) -> Callable[[], Iterator[Record]]:
    """Return what reads the records of a part in their order; parts that do not overlap share none.

    Raises:
        UserError: if the part has no record.
    """
    total = sum(1 for _ in read())
    order = random.Random(0).sample(range(total), total)
    taken = set(order[round(start * total) : round(end * total)])
    if not taken:
        raise UserError(f"part: expected at least one record from {start:g} to {end:g} of {total}, got none")
    return lambda: (record for number, record in enumerate(read()) if number in taken)


def _drawn(read: Callable[[], Iterator[Record]], limit: int, seed: int) -> list[Record]:
    """Return random records in their order. They are read twice, so that only these are ever in memory."""
    total = sum(1 for _ in read())
    drawn = set(random.Random(seed).sample(range(total), min(limit, total)))
    return [record for number, record in enumerate(read()) if number in drawn]


def _reader(source: Source, columns: Columns, optional: str | None) -> Callable[[], Iterator[Record]]:
    """Return what reads a source from its beginning, each time it is called."""
    if source.hub or (source.files and is_saved(source.files)):
        dataset, origin = open_hub(source) if source.hub else open_saved(source), _origin(source)
        return lambda: _picked(
            lambda asked: dataset_records(dataset, asked, origin), columns, origin, optional
        )
    if source.source_file and source.target_file:
        return _parallel_reader(source.source_file, source.target_file, columns)
    if source.conll:
        return _conll_reader(source, columns)
    paths = matching_files(source.files or "")
    return lambda: (
        record for path in paths for record in _picked(partial(file_records, path), columns, path, optional)
    )


def _picked(
    read: Callable[[Columns], Iterable[Mapping[str, Any]]],
    columns: Columns,
    origin: str,
    optional: str | None,
) -> Iterator[Record]:
    """Yield the columns of every record, without the optional one where the source has no such column."""
    try:
        yield from pick(read(columns), columns, origin, optional)
    except MissingColumnError as missing:  # before the first record
        if optional is None or missing.name != columns.get(optional):
            raise
        fewer = _without(optional, columns)
        yield from pick(read(fewer), fewer, origin)


def _parallel_reader(source_file: str, target_file: str, columns: Columns) -> Callable[[], Iterator[Record]]:
    files = {"source": source_file, "target": target_file}
    columns = _named_alike(columns, files, "source_file and target_file")
    counts = {path: sum(1 for _ in text_lines(path)) for path in files.values()}
    if len(set(counts.values())) > 1:
        got = " and ".join(f"{count} in {path}" for path, count in counts.items())
        raise UserError(f"parallel files: expected the same number of lines, got {got}")

    def read() -> Iterator[Record]:
        pairs = zip(*map(text_lines, files.values()), strict=True)
        records = (dict(zip(files, pair, strict=True)) for pair in pairs)
        return pick(records, columns, " and ".join(files.values()))

    return read


def _conll_reader(source: Source, columns: Columns) -> Callable[[], Iterator[Record]]:
    columns = _named_alike(columns, ("tokens", "tags"), "conll")
    token, tag = (0 if source.token_column is None else source.token_column), source.tag_column
    paths = matching_files(source.conll or "")
    return lambda: (
        record
        for path in paths
        for record in pick(conll_records(path, token, -1 if tag is None else tag), columns, path)
    )


def _named_alike(columns: Columns, held: Collection[str], source: str) -> Columns:
    """Return the columns of a source that names them as tasks do, whatever the names are in others."""
    if unknown := [column for column in columns if column not in held]:
        raise UserError(
            f"expected files or hub for the column {unknown[0]!r}, got {source} with {' and '.join(held)}"
        )
    return {column: column for column in columns}
