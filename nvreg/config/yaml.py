"""YAML as people write it: numbers and words of YAML 1.2, each key once, nothing that grows without bound."""

from __future__ import annotations

import math
import re
from typing import Any

import yaml
from yaml.nodes import CollectionNode, MappingNode, Node, ScalarNode

from nvreg.text import visible

LONGEST = 1 << 20
"""Characters of a document at most."""

DEEPEST = 50
"""Lists and mappings inside each other at most, those behind aliases counted where they are used."""

LARGEST = 100_000
"""Values of a document at most, those behind aliases counted as often as they are used."""

DIGITS = 100
"""Digits of a whole number at most."""

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


class MalformedError(yaml.YAMLError):
    """A document of YAML that says nothing certain; the message is one line and begins with the key."""


class _Loader(yaml.SafeLoader):
    """Reads plain words and numbers as YAML 1.2 does.

    ``1e-3`` is a number, ``010`` is ten, and ``1:30``, ``no``, ``on`` and ``2024-01-01`` are text.
    """

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._keys: list[str] = []  # where in the document the composer is
        self._extents: dict[int, tuple[int, int]] = {}  # values and levels of the nodes composed so far

    def compose_node(self, parent: Any, index: Any) -> Node:
        """Compose a node; what is too large is refused before it is built."""
        key = index.value if isinstance(index, ScalarNode) else index
        self._keys.append(str(key) if isinstance(key, int | str) else "")
        if len(self._keys) > DEEPEST:
            raise self._mistake(f"expected at most {DEEPEST} levels of lists and keys, got more")
        is_alias = self.check_event(yaml.AliasEvent)
        node = super().compose_node(parent, index)
        assert node is not None
        if not is_alias:
            self._extents[id(node)] = self._extent(node)
        elif id(node) not in self._extents:
            raise self._mistake("expected a value, got an alias of what it is a part of")
        values, levels = self._extents[id(node)]
        if levels + len(self._keys) > DEEPEST or values > LARGEST:
            raise self._mistake(
                f"expected at most {LARGEST} values and {DEEPEST} levels where aliases are written out, "
                "got more"
            )
        self._keys.pop()
        return node

    def _extent(self, node: Node) -> tuple[int, int]:
        """Return how many values a node has, itself included, and how many levels below it."""
        if not isinstance(node, CollectionNode):
            if node.tag == _INT and len(node.value) > DIGITS:
                raise self._mistake(
                    f"expected a number of at most {DIGITS} digits, got one of {len(node.value)}"
                )
            return 1, 0
        parts = node.value
        if isinstance(node, MappingNode):
            self._check_keys([key for key, _ in node.value])
            parts = [part for pair in node.value for part in pair]
        extents = [self._extents[id(part)] for part in parts]
        values, levels = zip(*extents, strict=True) if extents else ((), ())
        return 1 + sum(values), 1 + max(levels, default=0)

    def _check_keys(self, keys: list[Node]) -> None:
        """Check that a mapping has each key once; YAML has the last one count, which no reader sees."""
        seen: dict[tuple[str, Any], Node] = {}
        for key in keys:
            if not isinstance(key, ScalarNode):
                raise self._mistake("expected a key that is text or a number, got a list or keys of its own")
            if (first := seen.setdefault((key.tag, key.value), key)) is not key:
                lines = [each.start_mark.line + 1 for each in (first, key)]
                self._keys.append(key.value)
                raise self._mistake(f"expected the key once, got it in lines {lines[0]} and {lines[1]}")

    def _mistake(self, message: str) -> MalformedError:
        key = ".".join(filter(None, self._keys))
        key = key if len(key) <= 80 else key[:77] + "..."
        return MalformedError(f"{key}: {message}" if key else message)


class _Dumper(yaml.SafeDumper):
    """Quotes text that either version of YAML would read as something else."""


def _construct_int(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> int:
    digits = loader.construct_scalar(node).replace("_", "")
    return int(digits, 0 if digits[:2] in ("0x", "0o", "0b") else 10)


def _construct_float(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> float:
    if ":" in node.value:  # YAML 1.1 has 1:30.0 be 90
        raise ValueError(f"could not convert {node.value!r} to a number")
    number: float = loader.construct_yaml_float(node)
    return number


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag not in {*_PATTERNS, _TIMESTAMP}]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
for _tag, _pattern in _PATTERNS.items():
    for _class in (_Loader, _Dumper):
        _class.add_implicit_resolver(_tag, _pattern, list("-+.0123456789tTfF"))
_Loader.add_constructor(_INT, _construct_int)
_Loader.add_constructor(_FLOAT, _construct_float)


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    """Quote text with line ends so that they are escaped; those of Unicode are else read as spaces.

    Text with what overrides its direction is quoted too, for `write_yaml` to escape that.
    """
    style = '"' if "\n" in text or visible(text) != text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _represent_text)


def read_yaml(text: str) -> Any:
    """Return what a text of YAML says.

    Raises:
        yaml.YAMLError: if it is none, or says a key twice, or is longer, deeper or, with aliases written out,
            larger than a document for people.
        LookupError, ValueError: if a value is not what its tag says.
    """
    if len(text) > LONGEST:
        raise MalformedError(f"expected at most {LONGEST} characters, got {len(text)}")
    return _unshared(yaml.load(text, _Loader))


def _unshared(value: Any) -> Any:
    """Return lists and keys of their own for every alias, so that a change of one changes no other."""
    match value:
        case dict():
            return {key: _unshared(each) for key, each in value.items()}
        case list():
            return [_unshared(each) for each in value]
        case _:
            return value


def write_yaml(value: Any, *, on_one_line: bool = False) -> str:
    """Return a value as a text that `read_yaml`, and any other reader of YAML, reads as the same.

    Whoever looks at it sees all that it says: controls and overrides of direction are escaped.

    Args:
        value: a tree of mappings, lists, texts, numbers and the like.
        on_one_line: with braces and brackets, and no end of line.
    """
    if not on_one_line:
        return visible(yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True))
    # A list around it, as a value by itself may be followed by the mark of a document's end.
    options: dict[str, Any] = {"default_flow_style": True, "width": math.inf, "allow_unicode": True}
    return visible(yaml.dump([value], Dumper=_Dumper, sort_keys=False, **options).strip()[1:-1])
