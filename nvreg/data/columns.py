"""The columns that a task asks for, picked from records of any shape and checked for what they hold."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from nvreg.errors import UserError

Columns = Mapping[str, str]
"""The task's name of a column to the source's; "a.b" is b inside a."""

Record = dict[str, Any]
"""Values by the task's name of a column.

"label" holds a whole number or a text, "choices" and "tokens" a list of texts, "tags" a list of labels, one a
token, and every other column a text.
"""


class MissingColumnError(UserError):
    """A source has no column of a name.

    Attributes:
        name: the column's.
    """

    def __init__(self, message: str, name: str) -> None:
        super().__init__(message)
        self.name = name


class Several(tuple[Any, ...]):
    """The values of columns that have one name, of which none is meant more than another."""


def by_name(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """Return values by their names; of a name that comes more than once, all of them as `Several`."""
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            before = found[name] if isinstance(found[name], Several) else (found[name],)
            value = Several([*before, value])
        found[name] = value
    return found


def pick(
    records: Iterable[Mapping[str, Any]], columns: Columns, origin: str, optional: str | None = None
) -> Iterator[Record]:
    """Yield the columns of every record, whatever else it holds.

    Args:
        records: the records of the source.
        columns: what to read.
        origin: what messages call the source.
        optional: one of them that a record may have not, or nothing in it, which is None.

    Raises:
        UserError: if there is no record, or no such column or several of its name, a value is not what the
            task's column holds, or a record has not as many tags as tokens.
    """
    number = 0
    for number, record in enumerate(records, start=1):
        picked = {column: value_of(record, name) for column, name in columns.items()}
        for column, value in picked.items():
            expected, _ = _KINDS.get(column, _TEXT)
            if not holds(column, value) and not (value is None and column == optional):
                where = f"{origin}, record {number}, column {columns[column]!r}"
                if isinstance(value, Several):
                    raise UserError(_ambiguous(where, len(value)))
                if number == 1:
                    check_names([columns[column]], list(names_of(record)), origin)
                raise UserError(f"{where}: expected {expected}, got {_described(value)}")
        if picked.keys() >= {"tokens", "tags"}:
            _check_lengths(picked["tokens"], picked["tags"], f"{origin}, record {number}")
        yield picked
    if not number:
        raise UserError(f"{origin}: expected at least one record, got none")


def holds(column: str, value: Any) -> bool:
    """Return whether a value is what a task's column of this name holds."""
    _, is_expected = _KINDS.get(column, _TEXT)
    return is_expected(value)


def holds_text(column: str) -> bool:
    """Return whether a task's column of this name holds texts."""
    return column not in _KINDS


def value_of(record: Mapping[str, Any], name: str) -> Any:
    """Return the value of a key, or of keys of records inside each other joined by dots, or else None."""
    if name in record:
        return record[name]
    for key, inner in record.items():
        if isinstance(inner, Mapping) and name.startswith(f"{key}."):
            value = value_of(inner, name[len(key) + 1 :])
            if value is not None:
                return value
    return None


def check_names(wanted: Iterable[str], names: list[str], origin: str) -> None:
    """Check that a source has columns of these names, one of each.

    Raises:
        MissingColumnError: if it has none of a name; the message lists those it has.
        UserError: if it has several.
    """
    for name in wanted:
        if (count := names.count(name)) > 1:
            raise UserError(_ambiguous(f"{origin}, column {name!r}", count))
        if name not in names:
            got = ", ".join(each if each.isprintable() else repr(each) for each in names) or "none"
            raise MissingColumnError(
                f"{origin}: expected a column {name!r}, got {got:.300}; name the right one under columns",
                name,
            )


def _ambiguous(where: str, count: int) -> str:
    return f"{where}: expected one column of this name, got {count}; rename the others"


def _check_lengths(tokens: Sequence[str], tags: Sequence[str | int], where: str) -> None:
    if len(tokens) != len(tags):
        raise UserError(
            f"{where}: expected a tag for every token, got {len(tokens)} tokens and {len(tags)} tags"
        )


def names_of(record: Mapping[str, Any], before: str = "") -> Iterator[str]:
    """Yield the names of a record's values, keys inside each other joined by dots."""
    for key, value in record.items():
        if isinstance(value, Mapping):
            yield from names_of(value, f"{before}{key}.")
        else:
            yield f"{before}{key}"


def _described(value: Any) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, str) and not _is_text(value):
        return f"{value!r:.80}, which holds half of a surrogate pair"
    return f"{value!r:.80} ({type(value).__name__})"


def _is_text(value: Any) -> bool:
    """Return whether a value is text that UTF-8 can write, as tokenizers ask; JSON can escape other text."""
    try:
        return isinstance(value, str) and (value.isascii() or bool(value.encode()))
    except UnicodeEncodeError:
        return False


def _is_label(value: Any) -> bool:
    return _is_text(value) or (isinstance(value, int) and not isinstance(value, bool))


def _is_list(is_item: Callable[[Any], bool], shortest: int) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, list) and len(value) >= shortest and all(map(is_item, value))


_TEXT = ("text", _is_text)

_KINDS: Mapping[str, tuple[str, Callable[[Any], bool]]] = {
    "label": ("a label, which is a whole number or text", _is_label),
    "choices": ("a list of two or more texts", _is_list(_is_text, 2)),
    "tokens": ("a list of one or more texts", _is_list(_is_text, 1)),
    "tags": ("a list of one or more labels, which are whole numbers or texts", _is_list(_is_label, 1)),
}
"""What the columns hold that do not hold text."""
