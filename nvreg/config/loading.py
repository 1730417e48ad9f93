"""What people write, files and data on command lines, checked: mistakes are one line that names the key."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import ValidationError

from nvreg.config.sections import Section, Source
from nvreg.config.yaml import DEEPEST, LONGEST, MalformedError, read_yaml
from nvreg.errors import UserError, shown
from nvreg.validation import first_mistake

S = TypeVar("S", bound=Section)

SINGLE = {"seeds": "seed"}
"""Keys of lists, and the key that may stand for one with a single item."""

HUB = "hub:"
"""What the name of a data set on the hub begins with, and a colon before its configuration."""

_NUMBER = re.compile("-?[0-9]{1,9}")
"""What a column of a CoNLL file is called."""


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
        path: the path of the file, which need not be there.

    Raises:
        UserError: if a key or value is not what the schema expects.
    """
    try:
        return schema.model_validate(document, context={"directory": path.resolve().parent})
    except ValidationError as error:
        raise UserError(f"{path}: {first_mistake(error, document, SINGLE)}") from None


def source_of(written: str, split: str, *, words: str = "", tags: str = "", **others: Any) -> Source:
    """Return the data that a command line names.

    Args:
        written: ``files`` of a `Source`, which may be an address; ``hub:NAME`` or ``hub:NAME:CONFIG``; or, in
            braces, the keys of a source as an experiment file has them.
        split: the split of ``hub:NAME``.
        words: column of words; if this and ``tags`` are numbers, they are columns of a CoNLL file.
        tags: column of their tags.
        others: keys of the source that other options give; None is not given.

    Raises:
        UserError: if it is none of these.
    """
    keys = _keys_of(written, split)
    if "files" in keys and _NUMBER.fullmatch(words) and _NUMBER.fullmatch(tags):
        keys |= {"conll": keys.pop("files"), "token_column": int(words), "tag_column": int(tags)}
    keys |= {name: value for name, value in others.items() if value is not None}
    try:
        return Source.model_validate(keys)
    except ValidationError as error:
        raise UserError(f"{written}: {first_mistake(error, keys)}") from None


def _keys_of(written: str, split: str) -> dict[str, Any]:
    if written.startswith(HUB):
        name, _, config = written.removeprefix(HUB).partition(":")
        if not name:
            raise UserError(f"expected {HUB}NAME or {HUB}NAME:CONFIG of a data set, got {shown(written)}")
        return {"hub": name, "split": split, **({"config": config} if config else {})}
    if not written.startswith("{"):
        return {"files": written}
    try:
        keys = read_yaml(written)
    except (LookupError, ValueError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise UserError(
            f"expected the keys of a source, as in {{hub: NAME, split: test}}, got {shown(written)}: {reason}"
        ) from error
    assert isinstance(keys, dict)
    return keys


def _trusts_code(document: dict[str, Any]) -> bool:
    model = document.get("model")
    return isinstance(model, dict) and bool(model.get("trust_remote_code"))


def _read(path: Path) -> dict[str, Any]:
    try:
        with path.open(encoding="utf-8") as file:
            document = read_yaml(file.read(LONGEST + 1))
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise UserError(f"{path}: expected an experiment file that can be read, got: {reason}") from error
    except MalformedError as error:
        raise UserError(f"{path}: {error}") from error
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
        path: the path of the file that the document is of.

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
    if not separator or not all([*parents, last]) or len(parents) >= DEEPEST:
        raise UserError(f"--set: expected a.b=value, got {shown(override)}")
    target: Any = document
    try:
        for key in parents:
            target = target[_place(target, key)] if isinstance(target, list) else target.setdefault(key, {})
        target[_place(target, last) if isinstance(target, list) else last] = read_yaml(value)
    except (AttributeError, LookupError, TypeError, ValueError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise UserError(
            f"--set: expected keys of the experiment and a YAML value, got {shown(override)}: {reason}"
        ) from error


def _place(items: Sequence[Any], key: str) -> int:
    """Return the position in a list that a part of a dotted path names.

    Raises:
        LookupError: if there is none.
    """
    if not (key.isdecimal() and int(key) < len(items)):
        raise LookupError(f"expected a position from 0 to {len(items) - 1} in the list, got {key!r}")
    return int(key)
