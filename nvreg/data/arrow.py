"""Tables with types as records: of parquet files, of the hub, and of directories that `datasets` saved."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

from nvreg.config.sections import is_address
from nvreg.data.columns import Columns, check_names, value_of
from nvreg.data.stores import has_file, open_address, reading
from nvreg.errors import UserError, is_of_memory
from nvreg.hub import LOG_IN, refusal

if TYPE_CHECKING:
    import pyarrow as pa
    from datasets import Dataset, Features, IterableDataset

    from nvreg.config import Source

CONVERTED = "refs/convert/parquet"
"""The revision of a hub data set in which every config is a folder."""

_SAVED = ("state.json", "dataset_dict.json")
"""What a directory has that `datasets` saved a data set in, or several splits of one."""

_STREAMED = re.compile(r"(?P<name>[\w.+-]+?)(\[(?P<start>\d*):(?P<end>\d*)\])?")
"""A split that can be streamed, all of it or from one record to another."""

_ROWS = 1000
"""Rows that are in memory at a time."""


def parquet_records(path: str, columns: Columns) -> Iterator[Mapping[str, Any]]:
    """Yield the columns of a parquet file by their names in it, record by record; nothing else is read.

    Raises:
        UserError: if the file cannot be read or has not these columns.
    """
    import pyarrow.parquet as pq
    from datasets import Features

    names = list(dict.fromkeys(columns.values()))
    with _parquet(path) as place, pq.ParquetFile(place) as file:
        features = Features.from_arrow_schema(_fields(file.schema_arrow, names, path))
        yield from _records(file.iter_batches(_ROWS, columns=names), features, names, path)


def parquet_names(path: str) -> list[str]:
    """Return the names of the columns of a parquet file.

    Raises:
        UserError: if the file cannot be read.
    """
    import pyarrow.parquet as pq

    with _parquet(path) as place:
        return list(field_names(pq.read_schema(place)))


def dataset_records(
    dataset: Dataset | IterableDataset, columns: Columns, origin: str
) -> Iterator[Mapping[str, Any]]:
    """Yield the columns of a data set by their names in it, record by record.

    Raises:
        UserError: if the data set has not these columns, or what is left to read of it cannot be had.
    """
    names = list(dict.fromkeys(columns.values()))
    with _explained(origin):
        features = features_of(dataset)
    chosen = dataset.select_columns(_fields(features.arrow_schema, names, origin).names)
    with _explained(origin):
        yield from _records(chosen.with_format("arrow").iter(_ROWS), features, names, origin)


def features_of(dataset: Dataset | IterableDataset) -> Features:
    """Return the columns of a data set; one that is streamed may know them by its first records alone."""
    from datasets import Features

    if dataset.features is not None:
        return dataset.features
    first = next(iter(dataset.with_format("arrow").iter(_ROWS)), None)
    return Features({}) if first is None else Features.from_arrow_schema(first.schema)


def hub_splits(name: str, config: str | None) -> list[str]:
    """Return the names of the splits of a data set of the hub, or of a directory that is laid out like one.

    Raises:
        UserError: if the data set cannot be had, or has several configurations and none is named.
    """
    import datasets

    with _quiet(), _explained(name):
        return list(datasets.get_dataset_split_names(name, config))


def open_hub(source: Source) -> Dataset | IterableDataset:
    """Return the split of a data set of the hub, or of a directory that is laid out like one.

    The revision refs/convert/parquet is the hub's own conversion, which data sets that are scripts have too.

    Raises:
        UserError: if the data set or the split cannot be had.
    """
    import datasets

    name, revision, split = source.hub or "", source.revision, source.split
    config = {"data_dir" if revision == CONVERTED else "name": source.config}
    start, end = 0, None
    if source.streaming and split:
        split, start, end = _streamed_part(split)
    with _quiet(), _explained(name):
        dataset = datasets.load_dataset(
            name, split=split, revision=revision, streaming=source.streaming, **config
        )
    if isinstance(dataset, dict):
        raise UserError(f"{name}: expected a split, one of {', '.join(map(str, dataset))}, got none")
    dataset = dataset.skip(start) if start else dataset
    return dataset if end is None else dataset.take(max(0, end - start))


def is_saved(path: str) -> bool:
    """Whether a path or an address is that of a directory that `datasets` saved.

    Raises:
        UserError: if it is an address in a store that cannot be read.
    """
    if is_address(path):
        return not os.path.splitext(path)[1] and any(has_file(path, name) for name in _SAVED)
    return os.path.isdir(path) and any(os.path.isfile(os.path.join(path, name)) for name in _SAVED)


def saved_splits(path: str) -> list[str]:
    """Return the names of the splits that `datasets` saved in a directory; none where it saved one alone.

    Raises:
        UserError: if the directory cannot be read.
    """
    import datasets

    with _quiet(), _explained(path, "a directory that save_to_disk wrote"):
        saved = datasets.load_from_disk(path)
        return list(map(str, saved)) if isinstance(saved, dict) else []


def open_saved(source: Source) -> Dataset:
    """Return a data set that `datasets` saved in a directory, or the split that is named of several.

    Raises:
        UserError: if the directory cannot be read, or has no such split.
    """
    import datasets

    path = source.files or ""
    with _quiet(), _explained(path, "a directory that save_to_disk wrote"):
        saved = datasets.load_from_disk(path)
        splits = saved if isinstance(saved, dict) else {str(saved.split or "train"): saved}
        if source.split is None and isinstance(saved, dict):
            raise UserError(f"{path}: expected a split, one of {', '.join(map(str, splits))}, got none")
        if source.split is None:
            return saved
        sizes = {str(name): len(each) for name, each in splits.items()}
        parts = datasets.ReadInstruction.from_spec(source.split).to_absolute(sizes)
        return datasets.concatenate_datasets(
            [splits[each.splitname].select(range(each.from_, each.to)) for each in parts]
        )


def _streamed_part(split: str) -> tuple[str, int, int | None]:
    """Return the name of a split, and the numbers of the records from which and before which it is read.

    Raises:
        UserError: if that cannot be told without the number of all records.
    """
    found = _STREAMED.fullmatch(split.strip())
    if found is None:
        raise UserError(
            "split: expected a split, or a part of one that is counted from its beginning, as test[:500], "
            f"with streaming, got {split!r}; leave streaming out"
        )
    return found["name"], int(found["start"] or 0), int(found["end"]) if found["end"] else None


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
def _explained(name: str, what: str = "a data set of the hub") -> Iterator[None]:
    """Have whatever the hub, a data set's files or their reader raise be a UserError that names the set."""
    from datasets.exceptions import DatasetNotFoundError

    try:
        yield
    except UserError:
        raise
    except Exception as error:
        known = refusal(error)
        if isinstance(error, DatasetNotFoundError):
            known = _one_line(error), f"check the name, {LOG_IN} read it"
        if known:
            raise UserError(
                f"{name}: expected {what}, got {known[0]}; {known[1]}, or download it elsewhere and give its "
                "path as files"
            ) from error
        reason = error.__cause__ or error
        raise UserError(f"{name}: expected {what}, got: {_one_line(reason)}") from error


@contextmanager
def _parquet(path: str) -> Iterator[Any]:
    """Yield what pyarrow opens, a path or an open file of a store, and have errors name it.

    Raises:
        UserError: if it cannot be read, or is no parquet.
    """
    import pyarrow as pa

    with reading(path) if is_address(path) else nullcontext():
        try:
            with open_address(path) if is_address(path) else nullcontext(path) as place:
                yield place
        except (OSError, ValueError, LookupError, TypeError, AttributeError, pa.ArrowException) as error:
            if is_of_memory(error):
                raise
            raise UserError(f"{path}: expected parquet, got: {_one_line(error)}") from error


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
