"""Things of one kind by name: tasks, metrics, methods and whatever else a user picks by its name."""

from __future__ import annotations

import inspect
import sys
import traceback
import warnings
from collections.abc import Callable, ItemsView, Iterator, Mapping, MutableMapping, ValuesView
from contextlib import suppress
from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, EntryPoints, distributions, entry_points
from typing import Any, TypeVar, cast

from nvreg.errors import NvregWarning, UserError, expected_one_of

T = TypeVar("T")

Check = Callable[[str, Any], None]
"""Takes a name and what a package registers under it; raises ValueError where it is not what it has to be."""

_LOADED: dict[str, str] = {}
"""What packages registered that has been imported: the package, with its version, by its outermost module."""


class UnknownNameError(UserError, KeyError):
    """A name that a registry does not have: the user's mistake, and a mapping's missing key."""

    __str__ = Exception.__str__  # a KeyError prints the representation of its message


class Registry(MutableMapping[str, T]):
    """What exists of one kind, by name and in the order of registration.

    A value that is text, ``"package.module:attribute"``, stands for what is imported from there when the
    value is asked for: names are listed and checked without importing what they run on. To add a thing is
    one line: an entry where the registry is made, or ``registry[name] = value``, or an entry point of an
    installed package (docs/plugins.md), which is found when names are first asked for. A name of nvreg's own
    stays nvreg's whatever packages register.

    Args:
        kind: the word for one of them, or the key that users write its name under, for messages.
        entries: the values by name, or where they are.
        refused: names that are known and not offered, and why.
        group: the group of entry points by which installed packages add to it; None: none can.
        check: what their values have to pass (see `subclass_of`, `instance_of`).
    """

    def __init__(
        self,
        kind: str,
        entries: Mapping[str, T | str],
        *,
        refused: Mapping[str, str] | None = None,
        group: str | None = None,
        check: Check | None = None,
    ) -> None:
        self.kind = kind
        self._entries: dict[str, T | str] = dict(entries)
        self._refused = dict(refused or {})
        self._group, self._check = group, check
        self._found: dict[str, list[EntryPoint]] | None = None
        self._loaded: dict[str, T] = {}

    def check(self, name: str) -> str:
        """Return a name that exists; a validator of pydantic's, which names the key itself.

        It warns where a package registers the name as well, which stays nvreg's own.

        Raises:
            ValueError: if there is none of that name; it lists those that exist and says which is nearest, or
                why it is not offered.
        """
        if name not in self:
            raise ValueError(self._mistake(name))
        if name in self._entries and name in self._plugins:
            _warn(self._taken(name))
        return name

    def __getitem__(self, name: str) -> T:
        """Return what is registered under a name.

        Raises:
            UserError: if there is nothing; the message is that of `check`. It is a KeyError too. Or if it is
                a package's and faulty; the message names the package.
        """
        if name not in self:
            raise UnknownNameError(f"{self.kind}: {self._mistake(name)}")
        if name not in self._entries:
            if name not in self._loaded:
                self._loaded[name] = self._load(name)
            return self._loaded[name]
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
        yield from self._entries
        yield from (name for name in self._plugins if name not in self._entries)

    def __len__(self) -> int:
        return len({*self._entries, *self._plugins})

    def __contains__(self, name: object) -> bool:
        return name in self._entries or name in self._plugins

    def items(self) -> ItemsView[str, T]:
        """Return names and values, without what is faulty of packages, which nobody may have asked for."""
        return {name: self[name] for name in self if name in self._entries or not self._fault(name)}.items()

    def values(self) -> ValuesView[T]:
        """Return the values of `items`."""
        return dict(self.items()).values()

    def package(self, name: str) -> str | None:
        """Return the package that a name comes from, with its version; None where it is nvreg's own."""
        if name in self._entries or name not in self._plugins:
            return None
        return " and ".join(map(_package, self._plugins[name]))

    def faults(self) -> list[str]:
        """Return what is wrong with what packages register, a line each."""
        return [fault for name in self._plugins if (fault := self._fault(name))]

    @property
    def _plugins(self) -> Mapping[str, list[EntryPoint]]:
        if self._found is None:
            self._found = {}
            for entry in _installed(tuple(sys.path)).select(group=self._group) if self._group else ():
                self._found.setdefault(entry.name, []).append(entry)
        return self._found

    def _fault(self, name: str) -> str | None:
        """Return what is wrong with what packages register under a name, if they do and anything is."""
        if name in self._plugins and name in self._entries:
            return self._taken(name)
        try:
            self[name]
        except UserError as error:
            return str(error)
        return None

    def _taken(self, name: str) -> str:
        packages = " and ".join(map(_package, self._plugins[name]))
        return (
            f"{self.kind} {name!r} of package {packages}: expected a name that nvreg has not, which goes on "
            "using its own; rename it there"
        )

    def _load(self, name: str) -> T:
        """Return what a package registers.

        Raises:
            UserError: if it cannot be imported, is not what it has to be, or several packages register it.
        """
        entry, *others = self._plugins[name]
        what = f"{self.kind} {name!r} of package {self.package(name)}"
        if others:
            raise UserError(f"{what}: expected a name of one package; uninstall all of them but one")
        try:
            value = entry.load()
        except (Exception, SystemExit) as error:  # whatever the package does when it is imported
            got = " ".join(f"{type(error).__name__}: {error}".split())
            raise UserError(
                f"{what}: expected {entry.value} to be there to import, got {got}; mend or uninstall it"
            ) from error
        try:
            if self._check is not None:
                self._check(name, value)
        except ValueError as error:
            raise UserError(f"{what}: {error}; mend or uninstall it") from error
        if (outermost := entry.value.partition(":")[0].partition(".")[0]) != "nvreg":
            _LOADED[outermost] = _package(entry)
        return cast(T, value)

    def _mistake(self, name: str) -> str:
        if name in self._refused:
            known = ", ".join(self)
            return f"expected one of {known}, got {name!r}, which is not offered: {self._refused[name]}"
        return expected_one_of(self, name)


def subclass_of(base: type[Any], **parts: type[Any]) -> Check:
    """Return the check that a value is a class that derives from another, and has all that it declares.

    Args:
        base: the other.
        parts: by its name, what a class that the value has as an attribute derives from.
    """

    def check(name: str, value: Any) -> None:
        _check_class("a class", value, base)
        for part, base_of_part in parts.items():
            _check_class(f"{part}, a class", getattr(value, part), base_of_part)
        _check_name(name, value)

    return check


def instance_of(kind: type[Any]) -> Check:
    """Return the check that a value is an instance of a class, and has its name where such have names."""

    def check(name: str, value: Any) -> None:
        if not isinstance(value, kind):
            raise ValueError(
                f"expected an instance of {kind.__module__}.{kind.__qualname__}, got {value!r:.80}"
            )
        _check_name(name, value)

    return check


def package_fault(error: BaseException) -> str | None:
    """Return the line for an error that the code of a package raised, or handed on; None: no package's."""
    package = None
    for frame, _ in traceback.walk_tb(error.__traceback__):
        package = _LOADED.get(frame.f_globals.get("__name__", "").partition(".")[0], package)
    if package is None:
        return None
    got = " ".join(f"{type(error).__name__}: {error}".split()).removesuffix(":")
    return f"package {package}: expected its code to run, got {got}; mend or uninstall it"


def _check_class(what: str, value: Any, base: type[Any]) -> None:
    expected = f"expected {what} that derives from {base.__module__}.{base.__qualname__}"
    if not inspect.isclass(value) or not issubclass(value, base):
        raise ValueError(f"{expected}, got {value!r:.80}")
    missing = [
        each
        for each, kind in base.__annotations__.items()
        if str(kind).startswith("ClassVar") and not hasattr(value, each)
    ]
    missing += sorted(getattr(value, "__abstractmethods__", ()))
    if missing:
        raise ValueError(f"{expected} and has {', '.join(missing)}, got {value.__qualname__} without")


def _check_name(name: str, value: Any) -> None:
    if (named := getattr(value, "name", name)) != name:
        raise ValueError(f"expected the name that it is registered under, {name!r}, got name = {named!r}")


@cache
def _installed(path: tuple[str, ...]) -> EntryPoints:
    """Return the entry points of every package on a path, which is that of imports."""
    try:
        return cast(EntryPoints, entry_points())  # of which 3.11 says otherwise
    except Exception:  # one package, whichever it is, has a list that cannot be read: all others count
        found: dict[str, EntryPoint] = {}
        for each in distributions():
            with suppress(Exception):
                for entry in each.entry_points:  # of a package that is there twice, those of the first
                    found.setdefault(f"{each.name} {entry.group} {entry.name}", entry)
        return EntryPoints(found.values())


def _package(entry: EntryPoint) -> str:
    with suppress(Exception):  # what was left of a package that is gone has neither
        if entry.dist and entry.dist.name:
            return f"{entry.dist.name} {entry.dist.version}"
    return "without a name"


@cache
def _warn(fault: str) -> None:
    warnings.warn(fault, NvregWarning, stacklevel=3)
