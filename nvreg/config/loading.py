"""Reading and writing YAML: numbers as people write them, and mistakes as one line that names the key."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from nvreg.config.sections import Section
from nvreg.errors import UserError, did_you_mean, shown

S = TypeVar("S", bound=Section)

SINGLE = {"seeds": "seed"}
"""Keys of lists, and the key that may stand for one with a single item."""


class _Loader(yaml.SafeLoader):
    """Reads plain words and numbers as YAML 1.2 does.

    ``1e-3`` is a number, ``010`` is ten, and ``1:30``, ``no``, ``on`` and ``2024-01-01`` are text.
    """


class _Dumper(yaml.SafeDumper):
    """Quotes text that either version of YAML would read as something else."""


_BOOL, _FLOAT, _INT, _TIMESTAMP = (
    f"tag:yaml.org,2002:{kind}" for kind in ("bool", "float", "int", "timestamp")
)

_PATTERNS = {
    _BOOL: re.compile(r"(true|True|TRUE|false|False|FALSE)$"),
    _FLOAT: re.compile(
        r"[-+]?(\.[0-9][0-9_]*|[0-9][0-9_]*\.[0-9_]*)([eE][-+]?[0-9]+)?$|[-+]?[0-9][0-9_]*[eE][-+]?[0-9]+$"
        r"|[-+]?\.(inf|Inf|INF)$|\.(nan|NaN|NAN)$"
    ),
    _INT: re.compile(r"[-+]?[0-9][0-9_]*$|0x[0-9a-fA-F_]+$|0o[0-7_]+$|0b[01_]+$"),
}


def _construct_int(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> int:
    digits = loader.construct_scalar(node).replace("_", "")
    return int(digits, 0 if digits[:2] in ("0x", "0o", "0b") else 10)


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag not in {*_PATTERNS, _TIMESTAMP}]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
for _tag, _pattern in _PATTERNS.items():
    for _class in (_Loader, _Dumper):
        _class.add_implicit_resolver(_tag, _pattern, list("-+.0123456789tTfF"))
_Loader.add_constructor(_INT, _construct_int)


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    """Quote text with line ends so that they are escaped; those of Unicode are else read as spaces."""
    style = '"' if set(text) & set("\n\x85\u2028\u2029") else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _represent_text)


def read_yaml(text: str) -> Any:
    """Return what a text of YAML says.

    Raises:
        yaml.YAMLError: if it is none.
    """
    return yaml.load(text, _Loader)


def write_yaml(value: Any, *, on_one_line: bool = False) -> str:
    """Return a value as a text that `read_yaml`, and any other reader of YAML, reads as the same.

    Args:
        value: of mappings, lists, texts, numbers and the like.
        on_one_line: with braces and brackets, and no end of line.
    """
    if not on_one_line:
        return yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True)
    # A list around it, as a value by itself may be followed by the mark of a document's end.
    options: dict[str, Any] = {"default_flow_style": True, "width": math.inf, "allow_unicode": True}
    return yaml.dump([value], Dumper=_Dumper, sort_keys=False, **options).strip()[1:-1]


def load_checked(schema: type[S], path: Path | str, overrides: Sequence[str] = ()) -> S:
    """Read a file and check it against a schema.

    Args:
        schema: what the file must be.
        path: the YAML file. Input paths in it are relative to its directory and returned absolute.
        overrides: ``a.b=value`` each, set before checking: a dotted path of keys (and of positions in lists,
            from 0) and a YAML value.

    Raises:
        UserError: if the file cannot be read, or a key or value is not what the schema expects.
    """
    path = Path(path)
    document = _read(path)
    set_keys(document, overrides, path)
    return check_document(schema, document, path)


def check_document(schema: type[S], document: dict[str, Any], path: Path) -> S:
    """Check what a file says, or will say, against a schema.

    Args:
        schema: what the file must be.
        document: its keys and values.
        path: of the file, which need not be there.

    Raises:
        UserError: if a key or value is not what the schema expects.
    """
    try:
        return schema.model_validate(document, context={"directory": path.resolve().parent})
    except ValidationError as error:
        raise UserError(f"{path}: {_one_line(error, document)}") from None


def _trusts_code(document: dict[str, Any]) -> bool:
    model = document.get("model")
    return isinstance(model, dict) and bool(model.get("trust_remote_code"))


def _read(path: Path) -> dict[str, Any]:
    try:
        document = read_yaml(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise UserError(f"{path}: expected an experiment file that can be read, got: {reason}") from error
    except (LookupError, ValueError, yaml.YAMLError) as error:  # a tag that does not fit its value
        raise UserError(f"{path}: expected YAML, got: {' '.join(str(error).split())}") from error
    if not isinstance(document, dict):
        raise UserError(f"{path}: expected keys and values of an experiment, got {shown(document)}")
    return document


def set_keys(document: dict[str, Any], overrides: Sequence[str], path: Path) -> None:
    """Set keys of a document.

    Args:
        document: keys and values, which are changed.
        overrides: ``a.b=value`` each: a dotted path of keys, and of positions in lists, and a YAML value.
        path: of the file that the document is of.

    Raises:
        UserError: if one is not of this form, leads through what is no mapping or list, or has code run.
    """
    is_trusting = _trusts_code(document)
    for override in overrides:
        _set(document, override)
    if _trusts_code(document) and not is_trusting:
        raise UserError(
            "--set: expected model.trust_remote_code in the file alone, as it runs code that others wrote, "
            f"got it on the command line; write it into {path}"
        )


def _set(document: dict[str, Any], override: str) -> None:
    dotted, separator, value = override.partition("=")
    *parents, last = dotted.split(".")
    if not separator or not all([*parents, last]):
        raise UserError(f"--set: expected a.b=value, got {override!r}")
    target: Any = document
    try:
        for key in parents:
            target = target[_place(target, key)] if isinstance(target, list) else target.setdefault(key, {})
        target[_place(target, last) if isinstance(target, list) else last] = read_yaml(value)
    except (AttributeError, LookupError, TypeError, ValueError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise UserError(
            f"--set: expected keys of the experiment and a YAML value, got {override!r}: {reason}"
        ) from error


def _place(items: Sequence[Any], key: str) -> int:
    """Return the position in a list that a part of a dotted path names.

    Raises:
        LookupError: if there is none.
    """
    if not (key.isdecimal() and int(key) < len(items)):
        raise LookupError(f"expected a position from 0 to {len(items) - 1} in the list, got {key!r}")
    return int(key)


def _one_line(error: ValidationError, document: Any) -> str:
    """Return the first mistake; the members of a union report theirs separately and are joined."""
    mistakes: dict[str, list[ErrorDetails]] = {}
    for details in error.errors(include_url=False):
        mistakes.setdefault(_key(details, document), []).append(details)
    key, first = next(iter(mistakes.items()))
    more = f" (and {len(mistakes) - 1} more)" if len(mistakes) > 1 else ""
    message = _message(first).removeprefix(f"{key}: ")
    separator = "." if key and re.match(r"[\w.-]+: ", message) else ": " if key else ""
    return " ".join(f"{key}{separator}{message}{more}".split())


def _key(details: ErrorDetails, document: Any) -> str:
    """Return the dotted path of the mistake in the document.

    Left out is what the file does not write: the members of a union, and ``methods`` around a single one.
    """
    keys = []
    for part in details["loc"]:
        if isinstance(document, dict) and part not in document:
            part = SINGLE.get(str(part), part)
        inside = part in document if isinstance(document, dict) else isinstance(document, list)
        if inside:
            document = document[part]
        if inside or (details["type"] == "missing" and part == details["loc"][-1]):
            keys.append(str(part))
    if details["type"] == "unknown_key":
        keys.append(details["ctx"]["key"])
    return ".".join(keys)


def _message(alternatives: Sequence[ErrorDetails]) -> str:
    match alternatives[0]["type"]:
        case "missing":
            return "expected a value, the key is missing"
        case "value_error" | "unknown_key":
            return alternatives[0]["msg"].removeprefix("Value error, ")
        case _:
            expected = " or ".join(dict.fromkeys(map(_expected, alternatives)))
            given, names = alternatives[0]["input"], [name for each in alternatives for name in _names(each)]
            return f"expected {expected}, got {shown(given)}{did_you_mean(given, names)}"


def _expected(details: ErrorDetails) -> str:
    match details["type"]:
        case "model_type" | "dict_type":
            return "keys with values"
        case "too_short":
            return "at least one item"
        case "int_type" | "int_parsing" | "int_parsing_size" | "int_from_float":
            return "a whole number"
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
