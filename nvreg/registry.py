"""Things of one kind by name: tasks, metrics, methods and whatever else a user picks by its name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping
from importlib import import_module
from typing import TypeVar, cast

from nvreg.errors import UserError, expected_one_of

T = TypeVar("T")


class UnknownNameError(UserError, KeyError):
    """A name that a registry does not have: the user's mistake, and a mapping's missing key."""

    __str__ = Exception.__str__  # a KeyError prints the representation of its message


class Registry(MutableMapping[str, T]):
    """What exists of one kind, by name and in the order of registration.

    A value that is text, ``"package.module:attribute"``, stands for what is imported from there when the
    value is asked for: names are listed and checked without importing what they run on. To add a thing is
    one line: an entry where the registry is made, or ``registry[name] = value``.

    Args:
        kind: the word for one of them, or the key that users write its name under, for messages.
        entries: the values by name, or where they are.
        refused: names that are known and not offered, and why.
    """

    def __init__(
        self, kind: str, entries: Mapping[str, T | str], *, refused: Mapping[str, str] | None = None
    ) -> None:
        self.kind = kind
        self._entries: dict[str, T | str] = dict(entries)
        self._refused = dict(refused or {})

    def check(self, name: str) -> str:
        """Return a name that exists; a validator of pydantic's, which names the key itself.

        Raises:
            ValueError: if there is none of that name; it lists those that exist and says which is nearest, or
                why it is not offered.
        """
        if name not in self._entries:
            raise ValueError(self._mistake(name))
        return name

    def __getitem__(self, name: str) -> T:
        """Return what is registered under a name.

        Raises:
            UserError: if there is nothing; the message is that of `check`. It is a KeyError too.
        """
        if name not in self._entries:
            raise UnknownNameError(f"{self.kind}: {self._mistake(name)}")
        value = self._entries[name]
        if isinstance(value, str):
            module, _, attribute = value.partition(":")
            value = self._entries[name] = cast(T, getattr(import_module(module), attribute))
        return value

    def __setitem__(self, name: str, value: T | str) -> None:
        self._entries[name] = value

    def __delitem__(self, name: str) -> None:
        del self._entries[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def _mistake(self, name: str) -> str:
        if name in self._refused:
            known = ", ".join(self._entries)
            return f"expected one of {known}, got {name!r}, which is not offered: {self._refused[name]}"
        return expected_one_of(self._entries, name)
