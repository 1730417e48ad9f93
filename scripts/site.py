"""Pages of the documentation that the code knows, as a hook of MkDocs, and links from docs to other files.

The site is laid out as the repository is, with docs at its root: what a page links to is part of the site.
README.md is its first page. References are made from the commands, the schemas and `nvreg.__all__`.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

import nvreg
from nvreg.cli import COMMANDS, described, make_app
from nvreg.experiment import Experiment
from nvreg.finetune.schema import FineTuning

ROOT = Path(__file__).resolve().parents[1]
WHOLE = ("CHANGELOG.md", "CONTRIBUTING.md", "README.md", "results/real/README.md")
"""Pages beside those in docs, by their paths in the repository."""

_LINK = re.compile(r"(?<=\]\()(?!\w+:|#)([^)#\s]+)(#[^)\s]*)?(?=\))")
"""What a link leads to that is no address, and the heading there."""

_CODE = re.compile(r"^```.*?^```|`[^`\n]+`", re.DOTALL | re.MULTILINE)
"""What is code in a page, where nothing is a link."""

EXTENDING = {
    "nvreg.tasks.base": ["Task"],
    "nvreg.metrics.metric": ["Metric"],
    "nvreg.protocols": ["Protocol", "Evidence"],
    "nvreg.methods.method": ["Method"],
    "nvreg.parameters": ["Parameter", "Setting"],
    "nvreg.finetune.regularisers.regulariser": ["Regulariser", "Options"],
    "nvreg.registry": ["Registry"],
    "nvreg.testing": ["Subject", "check_mistake", "check_metric", "check_task", "check_protocol"],
}
"""What is derived from or made to add something, by its module."""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are made, and every file that a page links to (an event of MkDocs)."""
    made = {
        "reference/commands.md": commands_page(),
        "reference/experiment.md": keys_page("Keys of an experiment file", Experiment),
        "reference/finetuning.md": keys_page("Keys of a fine-tuning file", FineTuning),
        "reference/python.md": python_page(),
    }
    for path, text in made.items():
        files.append(File.generated(config, path, content=text))
    left = [*WHOLE, *(f"docs/{file.src_uri}" for file in files if not file.generated_by)]
    seen = set(left)
    while left:
        path = left.pop()
        if site_path(path) not in files.src_uris:
            files.append(File.generated(config, site_path(path), abs_src_path=str(ROOT / path)))
        if path.endswith(".md"):
            linked = {target for target in links_of(path) if (ROOT / target).is_file()}
            left += linked - seen
            seen |= linked
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Have a page's links lead to where the site has what they name (an event of MkDocs)."""
    source = page.file.abs_src_path
    if source is None:
        return markdown
    return relinked(markdown, Path(source).resolve().relative_to(ROOT).as_posix())


def site_path(path: str) -> str:
    """Return where the site has a file of the repository."""
    return "index.md" if path == "README.md" else path.removeprefix("docs/")


def links_of(path: str) -> Iterator[str]:
    """Yield the paths in the repository that a page links to, whatever is there."""
    for found in _LINK.finditer(_CODE.sub("", (ROOT / path).read_text(encoding="utf-8"))):
        yield posixpath.normpath(posixpath.join(posixpath.dirname(path), found[1]))


def relinked(markdown: str, path: str) -> str:
    """Return the text of a page of the repository as the site's page; a link to a directory is text alone."""
    here = posixpath.dirname(site_path(path)) or "."

    def lead(found: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(posixpath.dirname(path), found[1]))
        return posixpath.relpath(site_path(target), here) + (found[2] or "")

    def outside_of_code(text: str, change: Callable[[str], str]) -> str:
        parts, end = [], 0
        for code in _CODE.finditer(text):
            parts += [change(text[end : code.start()]), code[0]]
            end = code.end()
        return "".join([*parts, change(text[end:])])

    def is_directory(target: str) -> bool:
        return (ROOT / posixpath.join(posixpath.dirname(path), target)).is_dir()

    def change(text: str) -> str:
        text = re.sub(r"\[([^\]\[]*)\]\(([^)\s]+)\)", lambda m: m[1] if is_directory(m[2]) else m[0], text)
        return _LINK.sub(lead, text)

    return outside_of_code(markdown, change)


def commands_page() -> str:
    """Return the reference of the commands: what each says of itself under ``--help``."""
    import typer

    group: Any = typer.main.get_command(make_app())
    parts = ["# Commands", "`nvreg --help` lists them, `nvreg COMMAND --help` says what stands here."]
    for name in COMMANDS:
        command, (text, examples) = group.commands[name], described(COMMANDS[name])
        context = group.make_context("nvreg", [], resilient_parsing=True)
        usage = " ".join(command.collect_usage_pieces(command.context_class(command, parent=context)))
        parts += [f"## nvreg {name}", f"    nvreg {name} {usage}", _escaped(text)]
        rows = [_row(parameter) for parameter in command.params if not getattr(parameter, "hidden", False)]
        parts.append("\n".join(["| option | | default |", "|---|---|---|", *rows]))
        parts.append("\n".join(f"    {example}" for example in examples))
    return "\n\n".join(parts) + "\n"


def _row(parameter: Any) -> str:
    names = ", ".join([*parameter.opts, *parameter.secondary_opts])
    if parameter.param_type_name == "argument":
        names = parameter.metavar or parameter.human_readable_name
    default = parameter.show_default if isinstance(parameter.show_default, str) else parameter.default
    is_said = parameter.show_default and default not in (None, False) and not callable(default)
    return f"| `{names}` | {_escaped(parameter.help or '')} | {_escaped(str(default)) if is_said else ''} |"


def keys_page(title: str, model: type[Any]) -> str:
    """Return the reference of a file's keys, a table a section."""
    schema = model.model_json_schema()
    parts = [f"# {title}", "`nvreg schema` prints the same for an editor."]
    for path, section in _sections("", schema, schema["$defs"], {}):
        parts += [f"## {path or 'The file'}", _escaped(section.get("description", ""))]
        if "as" in section:
            parts.append(f"The keys are those of {section['as']}.")
            continue
        rows = []
        for key, node in section["properties"].items():
            default = "needed" if key in section.get("required", ()) else _default(node)
            under = schema["$defs"].get(_reference(node), {})
            said = _escaped(node.get("description") or under.get("description", ""))
            rows.append(f"| `{key}` | {_kind(node)} | {default} | {said} |")
        parts.append("\n".join(["| key | is | default | |", "|---|---|---|---|", *rows]))
    return "\n\n".join(parts) + "\n"


def _reference(node: Mapping[str, Any]) -> str:
    """Return the name of the definition that a schema stands for, empty where it is written out."""
    name: str = node.get("$ref", "").rpartition("/")[2]
    return name


def _sections(
    path: str, node: Mapping[str, Any], definitions: Mapping[str, Any], seen: dict[str, str]
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield the path and the schema of every section within one; of one that came before, as which it is."""
    if name := _reference(node):
        before = seen.setdefault(name, path)
        node = {**definitions[name], **node}
        if before != path:
            yield path, {**node, "as": before}
            return
    if "properties" in node:
        yield path, node
        for key, each in node["properties"].items():
            if key not in ("space", "enqueue"):  # their keys are the parameters of methods
                yield from _sections(f"{path}.{key}".removeprefix("."), each, definitions, seen)
    inner = [*node.get("anyOf", ()), *node.get("allOf", ()), *([node["items"]] if "items" in node else ())]
    for each in inner:
        yield from _sections(path, each, definitions, seen)


def _kind(node: Mapping[str, Any]) -> str:
    """Return in words what may stand under a key."""
    if "anyOf" in node:
        return " or ".join(dict.fromkeys(_kind(each) for each in node["anyOf"] if each.get("type") != "null"))
    if "enum" in node:
        return ", ".join(f"`{name}`" for name in node["enum"])
    if "const" in node:
        return f"`{node['const']}`"
    if "$ref" in node or node.get("type") == "object":
        return "keys"
    if node.get("type") == "array":
        return f"list of {_kind(node.get('items', {}))}"
    words = {"integer": "a whole number", "number": "a number", "string": "text", "boolean": "true or false"}
    return words.get(node.get("type", ""), "")


def _default(node: Mapping[str, Any]) -> str:
    default = node.get("default")
    if isinstance(default, bool):
        return f"`{str(default).lower()}`"
    return "" if default is None or isinstance(default, dict) else f"`{default}`"


def python_page() -> str:
    """Return the reference of the public names, and of what is derived from to add something."""
    parts = ["# Python", "What `import nvreg` has; README.md shows it in use."]
    parts += [f"::: nvreg.{nvreg._HOMES[name]}.{name}" for name in nvreg.__all__]
    parts.append("## To add something\n\nCONTRIBUTING.md says how each is used.")
    parts += [f"::: {module}.{name}" for module, names in EXTENDING.items() for name in names]
    return "\n\n".join(parts) + "\n"


def _escaped(text: str) -> str:
    """Return text on one line, or paragraphs, that markdown shows as it is in a table."""
    paragraphs = (" ".join(part.split()) for part in text.split("\n\n"))
    return "\n\n".join(re.sub(r"([|*<\[\]{}_`$])", r"\\\1", part) for part in paragraphs)
