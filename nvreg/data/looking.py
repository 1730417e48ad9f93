"""What a source holds, before anyone says what its columns are called."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

from nvreg.data.arrow import dataset_records, field_names, is_saved, open_hub, open_saved, parquet_names
from nvreg.data.columns import names_of, value_of
from nvreg.data.examples import load_examples
from nvreg.data.formats import PARQUET, file_records, matching_files, suffix_of
from nvreg.errors import UserError

if TYPE_CHECKING:
    from nvreg.config import Source

SPLITS: Mapping[str, Sequence[str]] = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev", "development"),
    "test": ("test", "testing"),
}
"""What each split is called in the names of files, and on the hub."""

LOOKED_AT = 200
"""Records of a source whose values are looked at."""


@dataclass(frozen=True)
class Look:
    """The columns of a source.

    Attributes:
        columns: values of the first `LOOKED_AT` records by the column's name, of which "a.b" is b inside a;
            None where a record has no such column.
        rows: how many records there are.
    """

    columns: Mapping[str, list[Any]]
    rows: int


def look(source: Source) -> Look:
    """Return what a source holds; its limit, its part and its columns are not looked at.

    Raises:
        UserError: if it is missing, empty or malformed.
    """
    if place := source.hub or (source.files if source.files and is_saved(source.files) else None):
        dataset = open_hub(source) if source.hub else open_saved(source)
        names = list(field_names(dataset.features.arrow_schema))
        first = dataset.select(range(min(LOOKED_AT, len(dataset))))
        return _look(list(dataset_records(first, {name: name for name in names}, place)), len(dataset))
    if source.files:
        records = _file_records(source.files)
        first_records = list(islice(records, LOOKED_AT))
        if not first_records:
            raise UserError(f"{source.files}: expected at least one record, got none")
        return _look(first_records, len(first_records) + sum(1 for _ in records))
    columns = ("tokens", "tags") if source.conll else ("source", "target")
    whole = source.model_copy(update={"limit": None, "seed": None, "part": None, "columns": {}})
    examples = load_examples(whole, {}, columns)
    return _look(examples.records[:LOOKED_AT], len(examples))


def _file_records(pattern: str) -> Iterator[Mapping[str, Any]]:
    for path in matching_files(pattern):
        names = parquet_names(path) if suffix_of(path) == PARQUET else []
        yield from file_records(path, {name: name for name in names})


def _look(records: Sequence[Mapping[str, Any]], rows: int) -> Look:
    names = dict.fromkeys(name for record in records for name in names_of(record))
    return Look({name: [value_of(record, name) for record in records] for name in names}, rows)
