"""Files of stores elsewhere, by their addresses: ``s3://``, ``hf://`` and whatever else fsspec knows."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any

from nvreg.errors import UserError
from nvreg.hub import reason_of

_MAGIC = re.compile(r"[*?\[]")


def open_address(address: str) -> IO[bytes]:
    """Open a file of a store for reading.

    Raises:
        UserError: if it cannot be opened, or what reads such a store is not installed.
    """
    store, path = _store_of(address)
    with reading(address):
        file: IO[bytes] = store.open(path, "rb")
        return file


def matching_addresses(pattern: str) -> list[str]:
    """Return the address of a file, or else those of the files that match it as a glob, by name.

    Raises:
        UserError: if there is none, or the store cannot be read.
    """
    store, path = _store_of(pattern)
    with reading(pattern):
        kind = _kind(store, path)
        if kind == "file":
            return [pattern]
        found = sorted(store.glob(path)) if kind is None and _MAGIC.search(path) else []
        addresses = [store.unstrip_protocol(each) for each in found if _kind(store, each) == "file"]
    if not addresses:
        got = "a directory" if kind == "directory" else "none"
        raise UserError(f"{pattern}: expected a file, or files that match, got {got}")
    return addresses


def has_file(directory: str, name: str) -> bool:
    """Whether a directory of a store has a file of a name.

    Raises:
        UserError: if the store cannot be read.
    """
    store, path = _store_of(directory)
    with reading(directory):
        return _kind(store, f"{path.rstrip('/')}/{name}") == "file"


@contextmanager
def reading(address: str) -> Iterator[None]:
    """Have whatever a store, or the way to it, raises be a UserError that names the address."""
    try:
        yield
    except (UserError, MemoryError):
        raise
    except Exception as error:  # every store raises its own
        got, mend = reason_of(error)
        raise UserError(
            f"{address}: expected a file that can be read, got {got}; {mend}, or download it and give its "
            "path"
        ) from error


def _store_of(address: str) -> tuple[Any, str]:
    """Return the file system of an address, and the path in it.

    Raises:
        UserError: if there is none, what reads it is not installed, or it cannot be reached.
    """
    import fsspec
    from fsspec.core import url_to_fs

    protocol, known = address.partition("://")[0], fsspec.available_protocols()
    with reading(address):  # some stores connect at once
        try:
            store, path = url_to_fs(address)
        except ImportError as error:
            raise UserError(
                f"{address}: expected a package that reads {protocol}://, got none ({error}); install it, or "
                "download the file and give its path"
            ) from error
        except ValueError as error:
            if protocol in known:
                raise
            raise UserError(
                f"{address}: expected one of {', '.join(sorted(known))}, got {protocol!r}"
            ) from error
    return store, path


def _kind(store: Any, path: str) -> str | None:
    """Return whether a path is that of a file or of a directory; None where there is nothing."""
    try:
        return str(store.info(path)["type"])
    except FileNotFoundError as error:
        if error.__cause__ is None:
            return None
        raise  # the repository that the path is in is what there is not
