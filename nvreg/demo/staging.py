"""Directories that are there complete or not at all."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nvreg.errors import UserError

STAMP = ".nvreg-demo"
"""The file whose content names what a directory was made from."""


def is_made(directory: Path, stamp: str) -> bool:
    """Return whether ``directory`` was made, from what ``stamp`` names."""
    file = directory / STAMP
    return file.is_file() and file.read_text(encoding="utf-8") == stamp


@contextmanager
def staged(directory: Path, stamp: str) -> Iterator[Path]:
    """Yield an empty directory that becomes ``directory``, stamped, when the block ends without an error.

    A kill leaves at most hidden directories beside it, which the next attempt removes.

    Raises:
        UserError: if ``directory`` cannot be made, or holds what was not made here.
    """
    if directory.exists() and not (directory / STAMP).is_file():
        raise UserError(
            f"expected {directory} to be absent or of an earlier demo, found other files: "
            "move them away or name another directory"
        )
    aside, replaced = (directory.with_name(f".{directory.name}.{state}") for state in ("part", "replaced"))
    shutil.rmtree(aside, ignore_errors=True)
    shutil.rmtree(replaced, ignore_errors=True)
    try:
        aside.mkdir(parents=True)
    except OSError as error:
        raise UserError(
            f"expected a directory to write to, got {directory.parent} ({error.strerror}): name another one"
        ) from error
    yield aside
    (aside / STAMP).write_text(stamp, encoding="utf-8")
    if directory.exists():
        directory.rename(replaced)
    aside.rename(directory)
    shutil.rmtree(replaced, ignore_errors=True)
