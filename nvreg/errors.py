"""The one exception that means "the user can mend this", and the words that its messages share."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any


class UserError(Exception):
    """A mistake in what the user gave: input, settings, files or environment.

    The message is one line that says what was expected, what was got and how to mend it. The
    command line prints it without a traceback and exits with code 2.
    """


class NvregWarning(UserWarning):
    """Something that the user should know and that ends nothing: the command line shows no other warnings."""


_FREE = "free some space and run the command again: what is finished is kept, and not done again"
_ALLOW = "choose another place, or let the user that runs nvreg write there"

PLACES = {
    errno.ENOSPC: _FREE,
    errno.EDQUOT: _FREE,
    errno.EACCES: _ALLOW,
    errno.EPERM: _ALLOW,
    errno.EROFS: _ALLOW,
    errno.ENOENT: "make the directory, or mend the link, or choose another place",
    errno.ENOTDIR: "a file stands where a directory has to: choose another place",
    errno.EEXIST: "something else stands there: choose another place",
    errno.EISDIR: "a directory stands where a file has to: choose another name",
    errno.ENOTEMPTY: "something else stands there: choose another place",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.ELOOP: "links lead to each other: choose another place",
    errno.EIO: "the disk cannot be read or written: see what the system says of it",
}
"""How to mend what the system says of a place, by the number of its error."""

MEMORY = (
    "can't allocate memory",
    "out of memory",
    "can't start new thread",
    os.strerror(errno.ENOMEM),
    os.strerror(errno.EAGAIN),
)
"""What errors of PyTorch, Python and the system say where memory, or what a thread needs, is too little."""


def is_of_memory(error: BaseException) -> bool:
    """Return whether an error says that memory is too little."""
    return isinstance(error, MemoryError) or any(words in str(error) for words in MEMORY)


def explained(error: BaseException, place: object = None) -> str | None:
    """Return the message for an error that is the system's, about a place or about memory, or else None.

    Libraries that write by themselves may hand on no more than the system's words.

    Args:
        error: what was raised.
        place: what was to be written, where the error does not say it, or says what stands for it.
    """
    if is_of_memory(error):
        return (
            "expected memory for the model and a batch, got too little; lower evaluation.batch_tokens or "
            "training.batch_size, choose model.dtype: bfloat16, or close what else is running"
        )
    if isinstance(error, OSError) and (error.errno in PLACES or (error.errno and error.filename)):
        place = place or error.filename or "what was to be written"
        mend = PLACES.get(error.errno or 0, "choose another place")
        return f"expected a place that can be read and written, got {place} ({error.strerror}); {mend}"
    for code, mend in PLACES.items():
        if mend is _FREE and os.strerror(code) in str(error):
            where = f" for {place}" if place else ""
            return f"expected space on the disk{where}, got none ({os.strerror(code)}); {mend}"
    return None


class DamagedError(UserError):
    """A file that nvreg wrote is gone, or is no longer what it was."""


class NotFiniteError(UserError):
    """A model's score of an example is no finite number.

    Attributes:
        example: the example's number, from 0.
    """

    def __init__(self, example: int) -> None:
        super().__init__(example)
        self.example = example

    def __str__(self) -> str:
        return (
            f"example {self.example + 1}: expected finite scores, got NaN or infinity; the model's weights, "
            "or what it computes from them, are not finite"
        )


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
