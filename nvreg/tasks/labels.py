"""Labels of the data as alternatives by number."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from nvreg.errors import UserError


def number_of(
    label: str | int, names: Sequence[str], renamed: Mapping[str, str] | None, *, record: int
) -> int:
    """Return which alternative a label is: by its name, in any case if need be, or by its number from 0.

    Args:
        label: of the data.
        names: of the alternatives; a name goes before a number.
        renamed: labels of the data to names or numbers of alternatives, where they differ.
        record: which record of the data, from 1, for the message.

    Raises:
        UserError: if it is none of them.
    """
    name = (renamed or {}).get(str(label), str(label))
    if name in names:
        return names.index(name)
    folded = [each.casefold() for each in names]
    if name.casefold() in folded:
        return folded.index(name.casefold())
    if name.isdecimal() and int(name) < len(names):
        return int(name)
    raise UserError(
        f"record {record}: expected the label {', '.join(names)} or a number of 0 to {len(names) - 1}, "
        f"received {name}; say under data.labels which one it is"
    )
