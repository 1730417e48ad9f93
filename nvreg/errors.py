"""The one exception that means "the user can mend this", and the words that its messages share."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any


class UserError(Exception):
    """A mistake in what the user gave: input, settings, files or environment.

    The message is one line that says what was expected, what was got and how to mend it. The
    command line prints it without a traceback and exits with code 2.
    """


def expected_one_of(known: Iterable[Any], given: Any, what: str = "one of") -> str:
    """Return the message that a name is none of those known: it lists them and says which is nearest.

    Args:
        known: the names that exist.
        given: what stands in the place of one; None where there is nothing.
        what: words for the names.
    """
    names = list(map(str, known))
    return f"expected {what} {', '.join(names)}, got {shown(given)}{did_you_mean(given, names)}"


def did_you_mean(given: Any, known: Iterable[str]) -> str:
    """Return the end of a message that names the nearest known name, empty where none is near."""
    near = get_close_matches(given, known, n=1) if isinstance(given, str) else []
    return f", did you mean {near[0]!r}?" if near else ""


def shown(given: Any) -> str:
    """Return how a message writes what it got, in 80 characters at most."""
    text = "nothing" if given is None else repr(given)
    return text if len(text) <= 80 else text[:77] + "..."
