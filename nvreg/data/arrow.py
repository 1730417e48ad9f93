"""Tables with types, from parquet files and from the hub, as records."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from nvreg.data.columns import Columns, check_names, value_of
from nvreg.errors import UserError

if TYPE_CHECKING:
    import pyarrow as pa
    from datasets import Dataset, Features

    from nvreg.config import Source

CONVERTED = "refs/convert/parquet"
"""The revision of a hub data set in which every config is a folder."""

_ROWS = 1000
"""Rows that are in memory at a time."""


def parquet_records(path: str, columns: Columns) -> Iterator[Mapping[str, Any]]:
    """Yield the columns of a parquet file by their names in it, record by record; nothing else is read.

    Raises:
        UserError: if the file cannot be read or has not these columns.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq
    from datasets import Features

    names = list(dict.fromkeys(columns.values()))
    try:
        with pq.ParquetFile(path) as file:
            features = Features.from_arrow_schema(_fields(file.schema_arrow, names, path))
            yield from _records(file.iter_batches(_ROWS, columns=names), features, names, path)
    except (OSError, ValueError, LookupError, TypeError, AttributeError, pa.ArrowException) as error:
        raise UserError(f"{path}: expected parquet, got: {_one_line(error)}") from error


def parquet_names(path: str) -> list[str]:
    """Return the names of the columns of a parquet file.

    Raises:
        UserError: if the file cannot be read.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return list(field_names(pq.read_schema(path)))
    except (OSError, ValueError, pa.ArrowException) as error:
        raise UserError(f"{path}: expected parquet, got: {_one_line(error)}") from error


def hub_records(dataset: Dataset, columns: Columns, origin: str) -> Iterator[Mapping[str, Any]]:
    """Yield the columns of a data set of the hub by their names in it, record by record.

    Raises:
        UserError: if the data set has not these columns.
    """
    names = list(dict.fromkeys(columns.values()))
    chosen = dataset.select_columns(_fields(dataset.features.arrow_schema, names, origin).names)
    return _records(chosen.with_format("arrow").iter(_ROWS), dataset.features, names, origin)


def hub_splits(name: str, config: str | None) -> list[str]:
    """Return the names of the splits of a data set of the hub, or of a directory that is laid out like one.

    Raises:
        UserError: if the data set cannot be had, or has several configurations and none is named.
    """
    import datasets

    with _quiet(), _explained(name):
        return list(datasets.get_dataset_split_names(name, config))


def open_hub(source: Source) -> Dataset:
    """Return the split of a data set of the hub, or of a directory that is laid out like one.

    The revision refs/convert/parquet is the hub's own conversion, which data sets that are scripts have too.

    Raises:
        UserError: if the data set or the split cannot be had.
    """
    import datasets

    name, revision = source.hub or "", source.revision
    config = {"data_dir" if revision == CONVERTED else "name": source.config}
    with _quiet(), _explained(name):
        dataset = datasets.load_dataset(name, split=source.split, revision=revision, **config)
    if isinstance(dataset, datasets.DatasetDict):
        raise UserError(f"{name}: expected a split, one of {', '.join(dataset)}, got none")
    return dataset


def _fields(schema: pa.Schema, names: Sequence[str], origin: str) -> pa.Schema:
    """Return the fields of a schema that hold the named columns."""
    import pyarrow as pa

    check_names(names, list(field_names(schema)), origin)
    holding = [field for field in schema if any(f"{name}.".startswith(f"{field.name}.") for name in names)]
    return pa.schema(holding, metadata=schema.metadata)


def field_names(fields: Iterable[pa.Field], before: str = "") -> Iterator[str]:
    """Yield the names of a schema's columns, those inside a column joined to its name by dots."""
    import pyarrow as pa

    for field in fields:
        if pa.types.is_struct(field.type):
            yield from field_names(field.type, f"{before}{field.name}.")
        else:
            yield f"{before}{field.name}"


def _records(
    tables: Iterable[pa.Table | pa.RecordBatch], features: Features, names: Sequence[str], origin: str
) -> Iterator[Mapping[str, Any]]:
    """Yield records whose numbered classes have their names.

    Raises:
        UserError: if a number is that of no class.
    """
    flat = features.flatten()
    classes = {name: _classes(flat.get(name)) for name in names}
    for table in tables:
        for row in table.to_pylist():
            yield {
                name: _named(value_of(row, name), classes[name], f"{origin}, column {name!r}")
                for name in names
            }


def _classes(feature: Any) -> list[str] | None:
    """Return the names of the classes that a column numbers, or that its lists do."""
    return getattr(getattr(feature, "feature", feature), "names", None)


def _named(value: Any, classes: list[str] | None, where: str) -> Any:
    """Return the name of a numbered class; a number below 0 is that of no class."""
    if classes is None or value is None:
        return value
    if isinstance(value, list):
        return [_named(each, classes, where) for each in value]
    if not isinstance(value, int) or value >= len(classes):
        raise UserError(f"{where}: expected the number of a class, below {len(classes)}, got {value!r:.80}")
    return classes[value] if value >= 0 else None


@contextmanager
def _explained(name: str) -> Iterator[None]:
    """Have whatever the hub, a data set's files or their reader raise be a UserError that names the set."""
    try:
        yield
    except ConnectionError as error:
        raise UserError(
            f"{name}: expected a data set of the hub, which cannot be reached ({_one_line(error)}); "
            "download it elsewhere and give its path as files"
        ) from error
    except Exception as error:
        reason = error.__cause__ or error
        raise UserError(f"{name}: expected a data set of the hub, got: {_one_line(reason)}") from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence `datasets`, whose errors arrive as exceptions all the same."""
    import datasets

    verbosity, bars = datasets.logging.get_verbosity(), datasets.are_progress_bars_disabled()
    datasets.logging.set_verbosity(datasets.logging.CRITICAL)
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        datasets.logging.set_verbosity(verbosity)
        if not bars:
            datasets.enable_progress_bars()


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
