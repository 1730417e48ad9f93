"""The columns of a data set, checked for what a task reads in them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from nvreg.errors import UserError

if TYPE_CHECKING:
    from datasets import Dataset

Columns = Mapping[str, str]
"""The task's name of a column to the source's."""


def values_of(dataset: Dataset, columns: Columns, origin: str) -> list[list[Any]]:
    """Return the values of each column, in the order of ``columns``.

    Args:
        dataset: with at least one record.
        columns: what to read; "a.b" is b inside a.
        origin: what messages call the data set.

    Raises:
        UserError: if there is no such column, or a value is not what the task's column holds.
    """
    dataset = dataset.flatten()
    for name in columns.values():
        if name not in dataset.column_names:
            raise UserError(
                f"{origin}: expected a column {name!r}, received {', '.join(dataset.column_names)}; "
                "name the right one under columns"
            )
    table = dataset.select_columns(list(dict.fromkeys(columns.values())))[:]
    classes = {name: getattr(dataset.features[name], "names", None) for name in table}
    return [
        _checked(column, _named(table[name], classes[name]), f"{origin}, record {{}}, column {name!r}")
        for column, name in columns.items()
    ]


def _named(values: list[Any], classes: list[str] | None) -> list[Any]:
    """Return the names of numbered classes; a number below 0 is that of no class."""
    if classes is None:
        return values
    return [None if value is None or value < 0 else classes[value] for value in values]


def _checked(column: str, values: list[Any], where: str) -> list[Any]:
    expected, is_expected = _KINDS.get(column, ("text", _is_text))
    for number, value in enumerate(values, start=1):
        if not is_expected(value):
            received = "nothing" if value is None else f"{value!r:.80} ({type(value).__name__})"
            raise UserError(f"{where.format(number)}: expected {expected}, received {received}")
    return values


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_label(value: Any) -> bool:
    return isinstance(value, str | int) and not isinstance(value, bool)


def _are_choices(value: Any) -> bool:
    return isinstance(value, list) and len(value) > 1 and all(map(_is_text, value))


_KINDS: Mapping[str, tuple[str, Callable[[Any], bool]]] = {
    "label": ("a label, which is a whole number or text", _is_label),
    "choices": ("a list of two or more texts", _are_choices),
}
"""What the columns hold that are not text."""
