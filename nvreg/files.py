"""Files that a kill leaves old or new, never torn, and output directories that belong to one run."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from nvreg.errors import UserError

MANIFEST = "manifest.json"
"""The file that says whose an output directory is."""


def write_bytes(path: Path, content: bytes) -> None:
    """Write ``content`` beside ``path``, flush it to disk, and rename it into place."""
    aside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with aside.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


def write_text(path: Path, content: str) -> None:
    """Write ``content`` in UTF-8, complete or not at all."""
    write_bytes(path, content.encode())


def check_output(
    output: Path, ours: Mapping[str, Any], theirs_of: Callable[[dict[str, Any]], Mapping[str, Any]]
) -> None:
    """Check that an output directory is new, or already this run's.

    Args:
        output: the directory; its `MANIFEST` says whose it is.
        ours: what makes the run another one.
        theirs_of: the same of a manifest.

    Raises:
        UserError: if it holds a run that differs in that, or something else.
    """
    elsewhere = "choose another with --output"
    try:
        theirs = theirs_of(json.loads((output / MANIFEST).read_text(encoding="utf-8")))
    except FileNotFoundError:
        if output.is_dir() and any(not path.name.startswith(".") for path in output.iterdir()):
            raise UserError(f"expected a new or empty output directory, got {output}; {elsewhere}") from None
        return
    except OSError as error:
        raise UserError(
            f"expected an output directory, got {output} ({error.strerror}); {elsewhere}"
        ) from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:  # something else wrote it
        raise UserError(
            f"expected an output directory of this experiment, got {output} with another kind of "
            f"{MANIFEST}; {elsewhere}"
        ) from error
    if differing := list(differences(theirs, ours)):
        raise UserError(
            f"expected an output directory of this experiment, got {output} of one that differs in "
            f"{', '.join(differing)}; {elsewhere}"
        )


@contextmanager
def exclusive(output: Path) -> Iterator[None]:
    """Hold an output directory for one process; the lock goes with the process, however it ends.

    Raises:
        UserError: if another process holds it.
    """
    try:
        held = FileLock(output / ".lock").acquire(timeout=0)
    except Timeout as error:
        raise UserError(
            f"expected a directory that no other run is writing, got {output}; "
            "wait for that run or choose another with --output"
        ) from error
    with held:
        yield


def differences(theirs: Mapping[str, Any], ours: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """Yield the dotted keys, in their order, in which two nested mappings differ."""
    for key in sorted(theirs.keys() | ours.keys()):
        their, our = theirs.get(key), ours.get(key)
        if isinstance(their, dict) and isinstance(our, dict):
            yield from differences(their, our, f"{prefix}{key}.")
        elif their != our:
            yield prefix + key
