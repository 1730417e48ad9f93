"""What is read is what its schema says, or one line that names the key: pydantic's errors in our words."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BeforeValidator, Strict, TypeAdapter, ValidationError, WithJsonSchema
from pydantic_core import ErrorDetails

from nvreg.errors import UserError, did_you_mean, shown

T = TypeVar("T")

_NO_NUMBERS = ("inf", "-inf", "nan")


def _number(given: Any) -> Any:
    return float(given) if given in _NO_NUMBERS else given


Number = Annotated[
    float,
    Strict(),
    BeforeValidator(_number),
    WithJsonSchema({"anyOf": [{"type": "number"}, {"enum": list(_NO_NUMBERS)}]}),
]
"""A number as JSON has it, or the text that stands for an infinity or NaN, which JSON has no numbers for."""


def checked(schema: TypeAdapter[T], text: bytes, where: str, hint: str) -> T:
    """Return what a text of JSON says, as its schema has it.

    Args:
        schema: what it must be.
        text: in UTF-8.
        where: the file, for the message, and the line where a line is a record.
        hint: how to mend it.

    Raises:
        UserError: if it is something else; the message names the key.
    """
    written = parsed(text, where, hint)
    try:
        return schema.validate_json(text)
    except ValidationError as error:
        raise UserError(f"{where}: {first_mistake(error, written)}; {hint}") from None


def parsed(text: bytes, where: str, hint: str) -> Any:
    """Return what a text of JSON says; arguments and errors are those of `checked`."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        got = shown(text[:80].decode(errors="replace"))
        raise UserError(f"{where}: expected JSON, got {got} ({error}); {hint}") from error


def read_bytes(path: Path, hint: str) -> bytes:
    """Return what a file holds.

    Raises:
        UserError: if it cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: expected a file that can be read, got: {error.strerror}; {hint}") from error


def first_mistake(error: ValidationError, document: Any, written: Mapping[str, str] | None = None) -> str:
    """Return the first mistake in a line; the members of a union report theirs separately and are joined.

    Args:
        error: what pydantic found.
        document: what it found it in.
        written: keys that may stand for others, by those.
    """
    mistakes: dict[str, list[ErrorDetails]] = {}
    for details in error.errors(include_url=False):
        mistakes.setdefault(_key(details, document, written or {}), []).append(details)
    key, first = next(iter(mistakes.items()))
    more = f" (and {len(mistakes) - 1} more)" if len(mistakes) > 1 else ""
    message = _message(first).removeprefix(f"{key}: ")
    separator = "." if key and re.match(r"[\w.-]+: ", message) else ": " if key else ""
    return " ".join(f"{key}{separator}{message}{more}".split())


def _key(details: ErrorDetails, document: Any, written: Mapping[str, str]) -> str:
    """Return the dotted path of the mistake in the document.

    Left out is what the file does not write: the members of a union, and ``methods`` around a single one.
    """
    keys = []
    for part in details["loc"]:
        if isinstance(document, dict) and part not in document:
            part = written.get(str(part), part)
        inside = part in document if isinstance(document, dict) else _has(document, part)
        if inside:
            document = document[part]
        if inside or (details["type"] == "missing" and part == details["loc"][-1]):
            keys.append(str(part))
    if details["type"] == "unknown_key":
        keys.append(details["ctx"]["key"])
    return ".".join(keys)


def _has(document: Any, place: Any) -> bool:
    return isinstance(document, list) and isinstance(place, int) and place < len(document)


def _message(alternatives: Sequence[ErrorDetails]) -> str:
    match alternatives[0]["type"]:
        case "missing":
            return "expected a value, the key is missing"
        case "extra_forbidden" | "unexpected_keyword_argument":
            return "expected no such key"
        case "value_error" | "unknown_key":
            return alternatives[0]["msg"].removeprefix("Value error, ")
        case _:
            expected = " or ".join(dict.fromkeys(map(_expected, alternatives)))
            given, names = alternatives[0]["input"], [name for each in alternatives for name in _names(each)]
            return f"expected {expected}, got {shown(given)}{did_you_mean(given, names)}"


def _expected(details: ErrorDetails) -> str:
    match details["type"]:
        case "model_type" | "dict_type" | "dataclass_type" | "mapping_type":
            return "keys with values"
        case "list_type":
            return "a list"
        case "too_short":
            return "at least one item"
        case "int_type" | "int_parsing" | "int_parsing_size" | "int_from_float":
            return "a whole number"
        case "float_type":
            return "a number"
        case "bool_type" | "bool_parsing":
            return "true or false"
        case "string_type":
            return "text"
        case "greater_than" | "greater_than_equal" | "less_than" | "less_than_equal" | "finite_number":
            return re.sub(r"^Input should be", "a number", details["msg"])
        case _:
            return re.sub(r"^Input should (be )?", "", details["msg"]).partition(", unable")[0]


def _names(details: ErrorDetails) -> list[str]:
    """Return the names that a value may be, where it may only be one of some."""
    return re.findall(r"'([^']*)'", details["ctx"]["expected"]) if details["type"] == "literal_error" else []
