"""Whether Transformers' attention is what layouts were compared with: by digests of its source.

A converted module in input space does in nvreg's code what its class does in Transformers', and in head
space nvreg's attention function takes the place of Transformers'. A release that changes either leaves the
two apart without an error. A table has the digests of all that is restated, with the versions on which the
tests compared them; `make restated` writes it.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import inspect
import json
import warnings
from collections.abc import Iterable, Mapping
from importlib.metadata import version
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from nvreg.errors import NvregWarning

FILE = "restated.json"
"""The table's name, in this package."""

_ROTARY = "RotaryEmbedding"
"""How classes are called that make the cosines and sines which attention is given."""

_NO_MATTER = frozenset({"annotation", "returns", "type_comment", "type_params", "kind", "ctx"})
"""Fields of syntax that change nothing of what is computed, or differ by the version of Python."""

Definition = ast.ClassDef | ast.FunctionDef


@functools.cache
def checked() -> Mapping[str, Mapping[str, str]]:
    """Return, by the name of what is restated, the digests that were checked, each with the last version."""
    read: dict[str, dict[str, str]] = json.loads(
        files(__package__).joinpath(FILE).read_text(encoding="utf-8")
    )
    return read


@functools.cache
def digest_of(module: str, name: str) -> str | None:
    """Return a digest of what decides what a class of Transformers computes, or how a function is called.

    Of a class, that is its code, all that it names in the same file, and what makes rotary positions there;
    of a function, its arguments. Comments, docstrings and annotations do not count. Nothing is imported.

    Args:
        module: where it is.
        name: the name of a class or a function.

    Returns:
        The digest, the same in every version of Python; None where there is no such source.
    """
    known = definitions(module)
    if isinstance(function := known.get(name), ast.FunctionDef):
        return _digest(function.args)
    found: set[str] = set()
    left = [name, *(each for each in known if each.endswith(_ROTARY))]
    while left:
        if (each := left.pop()) in known and each not in found:
            found.add(each)
            left += [node.id for node in ast.walk(known[each]) if isinstance(node, ast.Name)]
    return _digest([known[each] for each in sorted(found)]) if name in known else None


def warn_of_changes(restated: Iterable[Any]) -> None:
    """Warn, once for each, of classes and functions whose source is not one that was checked."""
    for each in dict.fromkeys(restated):
        _warn_of_change(each)


@functools.cache
def _warn_of_change(restated: Any) -> None:
    known = checked().get(restated.__name__, {})
    found = digest_of(restated.__module__, restated.__name__)
    if found is None or found in known:
        return
    versions = " and ".join(known.values()) or "none"
    elsewhere = ", or convert in head space, which runs it as it is" if inspect.isclass(restated) else ""
    warnings.warn(
        f"expected {restated.__name__} as in Transformers {versions}, which conversion was checked on, got "
        f"another in Transformers {version('transformers')}: the pretrained model and settings at identity "
        f"run it as it is, others may be wrong; install a version that was checked{elsewhere}",
        category=NvregWarning,
        stacklevel=2,
    )


@functools.cache
def definitions(module: str) -> Mapping[str, Definition]:
    """Return the classes and functions of a module by name; none where its source is not there."""
    spec = find_spec(module)
    if spec is None or spec.origin is None or not Path(spec.origin).is_file():
        return {}
    tree = ast.parse(Path(spec.origin).read_text(encoding="utf-8"))
    return {node.name: node for node in tree.body if isinstance(node, Definition)}


def _digest(nodes: Any) -> str:
    return hashlib.sha256(json.dumps(_form(nodes)).encode()).hexdigest()[:16]


def _form(node: Any) -> Any:
    """Return syntax as JSON-safe data, without what does not matter."""
    if isinstance(node, list):
        return [_form(each) for each in node if not _is_docstring(each)]
    if isinstance(node, ast.AST):
        fields = ((name, value) for name, value in ast.iter_fields(node) if name not in _NO_MATTER)
        return [
            type(node).__name__,
            *([name, _form(value)] for name, value in fields if value not in (None, [])),
        ]
    return repr(node)


def _is_docstring(node: Any) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
