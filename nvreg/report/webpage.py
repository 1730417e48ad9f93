"""A page as one HTML file that opens from disk: style and script are in it, and it asks for nothing else."""

from __future__ import annotations

import re
from base64 import b64encode
from functools import cache
from hashlib import sha256
from importlib import resources
from typing import TYPE_CHECKING

from markupsafe import Markup

from nvreg.document import SIGNS, Blocks, Cell, Drawing, Marked, PageSection, Table, Verdict
from nvreg.text import on_one_line, visible

if TYPE_CHECKING:
    from jinja2 import Template
    from markdown_it import MarkdownIt

KINDS = {
    "cell": Cell,
    "marked": Marked,
    "table": Table,
    "section": PageSection,
    "verdict": Verdict,
    "drawing": Drawing,
}
"""What the template tells apart."""

LIVE = ["autolink", "image", "link"]
"""What no report has: whatever looks like it is text from data."""


def html(title: str, blocks: Blocks) -> str:
    """Return a page as HTML.

    Its policy of content lets the one script run that is known by its digest, and no request leave.

    Args:
        title: what a browser calls the page.
        blocks: the page; its first is a heading in markdown.
    """
    script = _asset("report.js")
    heading, *rest = blocks
    page = _template().render(
        title=on_one_line(title),
        heading=heading,
        blocks=rest,
        style=_asset("report.css"),
        script=script,
        script_digest=f"sha256-{b64encode(sha256(script.encode()).digest()).decode()}",
        signs=SIGNS,
    )
    return visible(page)


@cache
def _template() -> Template:
    from jinja2 import Environment

    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.tests |= {
        name: lambda value, kind=kind: isinstance(value, kind) for name, kind in KINDS.items()
    }
    environment.filters |= {"prose": _prose, "anchor": anchor}
    return environment.from_string(_asset("report.html"))


def anchor(title: str) -> str:
    """Return the identifier of a section in a page."""
    return re.sub(r"\W+", "-", title.lower()).strip("-")


def _prose(markdown: str) -> Markup:
    """Return a paragraph, list, heading or block of code as HTML; markup in it is text."""
    return Markup(_markdown().render(markdown))


@cache
def _markdown() -> MarkdownIt:
    from markdown_it import MarkdownIt

    return MarkdownIt("commonmark", {"html": False}).disable(LIVE)


@cache
def _asset(name: str) -> str:
    return resources.files("nvreg.report").joinpath("assets", name).read_text(encoding="utf-8")
