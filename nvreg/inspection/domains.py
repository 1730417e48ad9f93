"""Names of domains that are given as files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from nvreg.errors import UserError

_NAMES: Sequence[Callable[[Path], str]] = (
    lambda path: path.name.split(".")[0],
    lambda path: path.parent.name,
    str,
)


def domain_names(files: Sequence[Path]) -> list[str]:
    """Name files without their endings; by their directories where those are alike; failing that by path.

    Raises:
        UserError: if a file is given twice.
    """
    for name in _NAMES:
        names = [name(path) for path in files]
        if len(set(names)) == len(names):
            return names
    raise UserError(f"expected every data file once, got {', '.join(map(str, files))}")
