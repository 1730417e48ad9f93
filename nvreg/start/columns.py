"""Which columns of the data are a task's, by what they are called and what they hold."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from statistics import fmean
from typing import Any, NamedTuple

from nvreg.data.columns import holds, holds_text
from nvreg.data.looking import Look
from nvreg.errors import UserError

NAMES: Mapping[str, Sequence[str]] = {
    "text": ("text", "sentence", "content", "review", "comment", "tweet", "page", "body", "document"),
    "label": ("label", "labels", "class", "category", "sentiment", "answer", "answerkey", "gold"),
    "premise": ("premise", "sentence1", "question1", "text1", "question"),
    "hypothesis": ("hypothesis", "sentence2", "question2", "text2", "sentence", "answer"),
    "source": ("source", "src", "input"),
    "target": ("target", "tgt", "output", "translation"),
    "document": ("document", "article", "dialogue", "text", "body", "email_body", "source"),
    "summary": ("summary", "highlights", "headline", "subject_line", "subject", "title", "target"),
    "tokens": ("tokens", "words", "form"),
    "tags": ("tags", "ner_tags", "pos_tags", "upos", "ner", "pos", "labels"),
    "context": ("context", "ctx", "question", "query", "stem", "prompt"),
    "choices": ("choices", "endings", "options", "answers"),
}
"""What people call the columns of tasks, the task's own name first."""

Test = Callable[[Any], bool]
"""Whether a value may stand in a column."""


class Found(NamedTuple):
    """A column of the data.

    Attributes:
        name: as the data has it.
        is_certain: whether the task calls it so too.
        why: what speaks for it, in words.
    """

    name: str
    is_certain: bool
    why: str


def find_columns(
    look: Look, wanted: Sequence[str], tests: Mapping[str, Test] | None = None
) -> dict[str, Found]:
    """Return the data's column for each of a task's columns that it has one for.

    Args:
        look: what the data holds.
        wanted: the task's names of columns.
        tests: what the values of a column have to pass besides.
    """
    found: dict[str, Found] = {}
    for column in sorted(wanted, key=lambda each: each == "text"):  # others have names of their own
        test = (tests or {}).get(column, lambda _: True)
        taken = {each.name for each in found.values()}
        if (one := _find(look, column, test, taken)) is not None:
            found[column] = one
    return {column: found[column] for column in wanted if column in found}


def named_columns(look: Look, wanted: Sequence[str]) -> dict[str, Found]:
    """Return what `find_columns` finds by name alone."""
    found = find_columns(look, wanted)
    return {column: one for column, one in found.items() if one.is_certain or one.why == BY_NAME}


def check_found(found: Collection[str], wanted: Sequence[str], look: Look, where: str) -> None:
    """Check that the data has a column for all that a task needs.

    Raises:
        UserError: if it has not; it lists what there is.
    """
    for column in wanted:
        if column not in found:
            raise UserError(
                f"{where}: expected a column for {column}, got {', '.join(look.columns)}; name it with "
                f"--set data.columns.{column}=NAME"
            )


def texts(look: Look) -> list[str]:
    """Return the columns of text, the longest on average first."""
    lengths = {name: fmean(map(len, values)) for name, values in _fitting(look, "text", lambda _: True)}
    return sorted(lengths, key=lambda name: -lengths[name])


BY_NAME = "by its name"
BY_LENGTH = "the longest texts"
BY_KIND = "the one that holds such values"


def _find(look: Look, column: str, test: Test, taken: set[str]) -> Found | None:
    fitting = {name: values for name, values in _fitting(look, column, test) if name not in taken}
    for known in NAMES.get(column, (column,)):
        for name in fitting:
            if name.rpartition(".")[2].lower() == known:
                return Found(name, known == column, BY_NAME)
    if not fitting:
        return None
    if holds_text(column):  # the first label or list that fits is taken
        lengths = {name: fmean(map(len, values)) for name, values in fitting.items()}
        return Found(max(lengths, key=lengths.__getitem__), False, BY_LENGTH)
    return Found(next(iter(fitting)), False, BY_KIND)


def _fitting(look: Look, column: str, test: Test) -> Iterator[tuple[str, list[Any]]]:
    """Yield the columns, and their values, of which every value may stand in a task's column."""
    for name, values in look.columns.items():
        there = [value for value in values if value is not None]
        if there and all(holds(column, value) and test(value) for value in there):
            yield name, there
