"""Turns the directories of runs into tables, pages and figures; reads files alone, never a model."""

from typing import TYPE_CHECKING

from nvreg.registry import Registry

if TYPE_CHECKING:
    from nvreg.report.writing import Format

FORMATS: Registry["Format"] = Registry(
    "format",
    {
        "markdown": "nvreg.report.writing:MARKDOWN",
        "latex": "nvreg.report.writing:LATEX",
        "csv": "nvreg.report.writing:CSV",
        "html": "nvreg.report.writing:HTML",
    },
)
"""The formats of a report by name; to add one is an entry (`nvreg.report.writing.Format`)."""
