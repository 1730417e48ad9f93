"""Which model types nvreg converts: the table that trying every one of them left, by `make architectures`."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from importlib.resources import files
from typing import NamedTuple, TypedDict

WITH = " with "
"""Between a model type and an option that matters, where a table has both."""

FILE = "architectures.json"
"""The table's name, in this package."""


class Tried(TypedDict, total=False):
    """What became of a tiny model of some type under some head.

    Attributes:
        inputs: the layouts of a model that is converted in input space.
        heads: the classes of what is left alone in one that is converted in head space.
        not_inputs: why the latter is not converted in input space too.
        refused: why it is converted in neither.
        untried: why nobody knows.
    """

    inputs: str
    heads: list[str]
    not_inputs: str
    refused: str
    untried: str


class Count(NamedTuple):
    """Under some head, how many model types are converted in the spaces, in either of them, and there are."""

    inputs: int
    heads: int
    either: int
    types: int


class Architectures(NamedTuple):
    """What is converted, in which space, and what is not. A name may say under which head alone.

    Attributes:
        transformers: the version that was tried.
        installed: the version that is installed.
        counts: text head to how many model types are converted under it.
        inputs: layout, named after its file in nvreg/models/layouts, to its model types.
        heads: model types that are converted in head space.
        not_inputs: why head space alone converts them, to model types.
        left_alone: class of what head space leaves alone, to model types.
        refused: reason to model types.
        untried: reason to model types.
    """

    transformers: str
    installed: str
    counts: Mapping[str, Count]
    inputs: Mapping[str, Sequence[str]]
    heads: Sequence[str]
    not_inputs: Mapping[str, Sequence[str]]
    left_alone: Mapping[str, Sequence[str]]
    refused: Mapping[str, Sequence[str]]
    untried: Mapping[str, Sequence[str]]


def trials() -> tuple[str, dict[str, dict[str, Tried]]]:
    """Return the version of Transformers that was tried, and what became of model types by their heads."""
    read = json.loads(files(__package__).joinpath(FILE).read_text(encoding="utf-8"))
    return read["transformers"], read["trials"]


def architectures() -> Architectures:
    """Return what is known of every model type."""
    tried_with, by_type = trials()
    plain = [by_head for name, by_head in by_type.items() if WITH not in name]
    heads = sorted({head for by_head in plain for head in by_head})
    return Architectures(
        tried_with,
        version("transformers"),
        {head: _count([by_head[head] for by_head in plain if head in by_head]) for head in heads},
        _grouped(by_type, "inputs"),
        [
            name
            for name, by_head in by_type.items()
            if WITH not in name and any("heads" in tried for tried in by_head.values())
        ],
        _grouped(by_type, "not_inputs"),
        _grouped(by_type, "heads"),
        _grouped(by_type, "refused"),
        _grouped(by_type, "untried"),
    )


def _count(tried: Sequence[Tried]) -> Count:
    inputs, heads = (sum(space in each for each in tried) for space in ("inputs", "heads"))
    either = sum("inputs" in each or "heads" in each for each in tried)
    return Count(inputs, heads, either, len(tried))


def _grouped(by_type: Mapping[str, Mapping[str, Tried]], key: str) -> dict[str, list[str]]:
    """Return what trials have under a key, to the model types that have it."""
    found: defaultdict[str, list[str]] = defaultdict(list)
    for model_type, by_head in by_type.items():
        values: defaultdict[str, list[str]] = defaultdict(list)
        for head, tried in by_head.items():
            for value in _values(tried, key):
                values[value].append(head)
        for value, heads in values.items():
            is_one_of_many = key != "inputs" and len(heads) < len(by_head)
            found[value].append(f"{model_type} ({', '.join(heads)})" if is_one_of_many else model_type)
    return dict(sorted(found.items()))


def _values(tried: Tried, key: str) -> Iterator[str]:
    value = tried.get(key, ())
    if isinstance(value, str):
        yield value
    elif isinstance(value, Sequence):
        yield from value
