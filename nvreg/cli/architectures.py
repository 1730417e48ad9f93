"""``nvreg architectures``."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from nvreg.cli.options import one_of

if TYPE_CHECKING:
    from nvreg.models.registry import Architectures


OutputFormat = Annotated[
    Literal["text", "markdown", "json"],
    one_of("--format", "text", "markdown", "json", help="How the list is written."),
]


def architectures(format: OutputFormat = "text") -> None:
    """Print which architectures are converted, by layout, and which are refused, and why."""
    from nvreg.models.registry import architectures as known

    write = {"text": _text, "markdown": _markdown, "json": _json}[format]
    typer.echo(write(known()))


def _text(known: Architectures) -> str:
    wrapper = textwrap.TextWrapper(
        width=100, initial_indent="  ", subsequent_indent="    ", break_on_hyphens=False
    )
    return "\n\n".join(
        "\n".join([heading, *(wrapper.fill(f"{key}: {', '.join(table[key])}") for key in table)])
        for heading, _, table in _tables(known)
    )


def _markdown(known: Architectures) -> str:
    return "\n\n".join(
        "\n".join(
            [
                f"| {column} | model types |\n|---|---|",
                *(f"| {key} | {', '.join(table[key])} |" for key in table),
            ]
        )
        for _, column, table in _tables(known)
    )


def _tables(known: Architectures) -> list[tuple[str, str, dict[str, list[str]]]]:
    """Return heading, heading of the first column, and contents of every table that is not empty."""
    tables = [
        ("converted, by layout", "layout", _sorted(known.inputs)),
        ("converted in head space", "form", {"heads": sorted(known.heads)} if known.heads else {}),
        ("refused, by reason", "refused because", _sorted(known.refused)),
        ("not tried, by reason", "not tried because", _sorted(known.untried)),
    ]
    return [table for table in tables if table[-1]]


def _json(known: Architectures) -> str:
    import transformers

    tables = {
        "inputs": _sorted(known.inputs),
        "heads": sorted(known.heads),
        "refused": _sorted(known.refused),
        "untried": _sorted(known.untried),
    }
    return json.dumps({"transformers": transformers.__version__, **tables}, indent=1)


def _sorted(table: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    return {key: sorted(names) for key, names in table.items()}
