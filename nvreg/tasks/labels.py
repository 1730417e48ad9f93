"""Labels of the data as alternatives by number."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from nvreg.errors import UserError


def number_of(
    label: str | int,
    names: Sequence[str],
    renamed: Mapping[str, str] | None,
    *,
    record: int,
    by_number: bool = False,
) -> int:
    """Return which alternative a label is: by its name, in any case if need be, or by its number from 0.

    Args:
        label: what the data has.
        names: names of the alternatives; a name goes before a number, unless ``by_number``.
        renamed: labels of the data to names or numbers of alternatives, where they differ.
        record: which record of the data, from 1, for the message.
        by_number: a whole number is a number, and so is text that ``renamed`` gives, whatever the names are.

    Raises:
        UserError: if it is none of them, or ``by_number`` text that is one's name and another's number.
    """
    name = (renamed or {}).get(str(label), str(label))
    number = int(name) if name.isdecimal() and int(name) < len(names) else None
    if by_number and number is not None:
        if not isinstance(label, str) or str(label) in (renamed or {}):
            return number
        if name in names and names.index(name) != number:
            raise UserError(
                f"record {record}: expected the number or the text of a choice, got {name!r}, which is "
                "the number of one and the text of another; write a number without quotes, or say under "
                "data.labels which one it is"
            )
    if name in names:
        return names.index(name)
    folded = [each.casefold() for each in names]
    if name.casefold() in folded:
        return folded.index(name.casefold())
    if number is not None:
        return number
    raise UserError(
        f"record {record}: expected the label {', '.join(names)} or a number of 0 to {len(names) - 1}, "
        f"got {name}; say under data.labels which one it is"
    )
