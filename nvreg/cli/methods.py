"""``nvreg methods``."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator
from typing import Annotated, Any, Literal

from nvreg.cli.options import one_of, say

OutputFormat = Annotated[
    Literal["text", "json"], one_of("--format", "text", "json", help="How the list is written.")
]


def methods(format: OutputFormat = "text") -> None:
    """Print the methods, tasks, metrics and protocols that there are, those of packages too.

    What is wrong with what a package brings stands at the end.

    Example:
        nvreg methods

        nvreg methods --format json
    """
    known = _known()
    say(json.dumps(known, indent=1) if format == "json" else "\n".join(_lines(known)))


def _known() -> dict[str, Any]:
    """Return what is documented in docs/plugins.md as the form of the JSON."""
    from nvreg.methods import METHODS
    from nvreg.metrics import METRICS
    from nvreg.protocols import PROTOCOLS
    from nvreg.registry import Registry
    from nvreg.tasks import TASKS

    others: dict[str, Registry[Any]] = {"tasks": TASKS, "metrics": METRICS, "protocols": PROTOCOLS}
    return {
        "methods": {
            name: {
                "description": (method.__doc__ or "").partition("\n")[0],
                "parameters": {each: rule.allowed for each, rule in method.setting_type.parameters.items()},
                "options": list(method.options.model_fields),
                "package": METHODS.package(name),
            }
            for name, method in METHODS.items()
        },
        **{
            kind: {name: {"package": registry.package(name)} for name, _ in registry.items()}
            for kind, registry in others.items()
        },
        "faults": [fault for registry in (METHODS, *others.values()) for fault in registry.faults()],
    }


def _lines(known: dict[str, Any]) -> Iterator[str]:
    for name, method in known["methods"].items():
        yield _wrapped(f"{name}{_origin(method)}: {method['description']}")
        for parameter, allowed in method["parameters"].items():
            yield _wrapped(f"{parameter}: {allowed}", "  ")
        if method["options"]:
            yield _wrapped(f"options: {', '.join(method['options'])}", "  ")
    for kind in ("tasks", "metrics", "protocols"):
        yield _wrapped(f"{kind}: {', '.join(f'{name}{_origin(each)}' for name, each in known[kind].items())}")
    yield from known["faults"]


def _origin(described: dict[str, Any]) -> str:
    return f" (of {described['package']})" if described["package"] else ""


def _wrapped(text: str, indent: str = "") -> str:
    return textwrap.fill(
        text,
        width=100,
        initial_indent=indent,
        subsequent_indent=f"{indent}  ",
        break_on_hyphens=False,
        break_long_words=False,
    )
