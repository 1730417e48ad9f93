"""``nvreg architectures``."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Literal

from nvreg.cli.options import one_of, say

if TYPE_CHECKING:
    from nvreg.models.architectures import Architectures


OutputFormat = Annotated[
    Literal["text", "markdown", "json"],
    one_of("--format", "text", "markdown", "json", help="How the list is written."),
]


def architectures(format: OutputFormat = "text") -> None:
    """Print which model types are converted, in which space, and which are refused, and why.

    The list is what trying a tiny model of every type of Transformers left. Input space is the published
    form; head space is taken by more types (nv-heads in a sweep, --space heads elsewhere).

    Example:
        nvreg architectures

        nvreg architectures --format json
    """
    from nvreg.models.architectures import architectures as known

    write = {"text": _text, "markdown": markdown, "json": _json}[format]
    say(write(known()))


def _text(known: Architectures) -> str:
    wrapper = textwrap.TextWrapper(
        width=100, initial_indent="  ", subsequent_indent="    ", break_on_hyphens=False
    )
    return "\n\n".join(
        [
            "\n".join(wrapper.fill(line)[2:] for line in _versions(known)),
            *(
                "\n".join([heading, *(wrapper.fill(f"{key}: {said}") for key, said in rows.items())])
                for heading, _, rows in _tables(known)
            ),
        ]
    )


def markdown(known: Architectures) -> str:
    """Return what was tried, and one table after the other, with an empty line between."""
    return "\n\n".join(
        [
            " ".join(_versions(known)),
            *(
                "\n".join(
                    [
                        f"| {' | '.join(header)} |\n|---|---|",
                        *(f"| {key} | {said} |" for key, said in rows.items()),
                    ]
                )
                for _, header, rows in _tables(known)
            ),
        ]
    )


def _versions(known: Architectures) -> list[str]:
    lines = [f"A tiny model of every model type was tried with Transformers {known.transformers}."]
    if known.installed != known.transformers:
        lines.append(
            f"Transformers {known.installed} is installed, of which other types may be converted and refused."
        )
    return lines


def _tables(known: Architectures) -> list[tuple[str, tuple[str, str], dict[str, str]]]:
    """Return heading, column names, and rows of every table that is not empty."""
    counts = {
        head: f"{each.either} of {each.types}: {each.inputs} in input space, {each.heads} in head space"
        for head, each in known.counts.items()
    }
    tables = [
        ("model types converted, by text head", ("text head", "model types converted"), counts),
        (
            "converted in input space, by layout",
            ("layout in input space", "model types"),
            _joined(known.inputs),
        ),
        (
            "converted in head space alone, by reason",
            ("in head space alone, because", "model types"),
            _joined(known.not_inputs),
        ),
        ("left alone in head space, by class", ("left alone in head space", "in"), _joined(known.left_alone)),
        ("refused, by reason", ("refused because", "model types"), _joined(known.refused)),
        ("not tried, by reason", ("not tried because", "model types"), _joined(known.untried)),
    ]
    return [table for table in tables if table[-1]]


def _joined(table: Mapping[str, Sequence[str]]) -> dict[str, str]:
    return {key: ", ".join(names) for key, names in table.items()}


def _json(known: Architectures) -> str:
    return json.dumps(
        {
            "transformers": known.transformers,
            "inputs": known.inputs,
            "heads": known.heads,
            "refused": known.refused,
            "untried": known.untried,
            "not_inputs": known.not_inputs,
            "left_alone": known.left_alone,
            "counts": {head: count._asdict() for head, count in known.counts.items()},
            "installed": known.installed,
        },
        indent=1,
    )
