"""How an encoder-decoder model reads text, as options: keys of an experiment's ``data``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from nvreg.config import Reading

SourcePrefix = Annotated[
    str | None, typer.Option("--source-prefix", help="Text before every source, for T5.")
]
SourceLanguage = Annotated[
    str | None, typer.Option("--source-language", help="Of the sources, for a model of many languages.")
]
TargetLanguage = Annotated[
    str | None, typer.Option("--target-language", help="Of the targets, for a model of many languages.")
]


def make_reading(prefix: str | None, source: str | None, target: str | None) -> Reading:
    """Return what the options say."""
    from nvreg.config import Reading

    return Reading(source_prefix=prefix, source_language=source, target_language=target)
