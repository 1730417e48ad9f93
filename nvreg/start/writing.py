"""An experiment file for people: YAML with what speaks for a value beside it, once it is known to run."""

from __future__ import annotations

import os
import shlex
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from nvreg.config.loading import check_document
from nvreg.config.yaml import write_yaml
from nvreg.errors import UserError
from nvreg.experiment import Experiment, check_sense
from nvreg.files import check_place, write_text
from nvreg.progress import Progress
from nvreg.start.data import FULL
from nvreg.start.draft import DraftRequest, draft_experiment
from nvreg.start.subject import Ask
from nvreg.sweep.dry_run import plan_rows
from nvreg.text import on_one_line

WIDTH = 110
"""Characters of a line, longer only where one value is."""


def write_experiment(
    request: DraftRequest, ask: Ask | None, *, is_timed: bool, quiet: bool = False
) -> dict[str, str]:
    """Write an experiment file from a model and data, once it is known to run.

    Args:
        request: what the user asks for.
        ask: asks the user what cannot be seen; None where nobody answers.
        is_timed: do all that a dry run does, and say in the file what that says.
        quiet: show no progress.

    Returns:
        What a dry run says; nothing where none is made.

    Raises:
        UserError: if the model or the data cannot be had, something cannot be told, the file is there, or
            the place cannot be written to.
    """
    check_place(request.file)
    if os.path.lexists(request.file):
        raise UserError(
            f"expected a new file, got {request.file}, which is there already; name another with --output"
        )
    with Progress(quiet) as progress:
        draft = draft_experiment(request, ask, progress)
    experiment = check_document(Experiment, draft.document, request.file)
    check_sense(request.file, experiment.task, experiment.data, experiment.evaluation)
    rows = plan_rows(experiment, quiet=quiet) if is_timed else {}
    heading = [f"Written by: {command_of(request)}", "What is guessed says so. Change it, and run:"]
    heading.append(f"  nvreg sweep --config {shlex.quote(str(request.file))}")
    if rows:
        heading.append(f"On this machine: {rows['time']}; {rows['memory']} of memory.")
    request.file.parent.mkdir(parents=True, exist_ok=True)
    write_text(request.file, commented_yaml(draft.document, draft.notes, heading))
    return rows


def command_of(request: DraftRequest) -> str:
    """Return the command that asks for an experiment."""
    name = "init" if request.size == FULL else "try"
    domains = [part for path in request.out_of_domain for part in ("--out-of-domain", path)]
    given = [part for override in request.overrides for part in ("--set", override)]
    task = ["--task", request.task] if request.task else []
    return shlex.join(
        ["nvreg", name, request.model, "--in-domain", request.in_domain, *domains, *task, *given]
    )


def is_written(request: DraftRequest) -> bool:
    """Return whether the file of a request is there, written for the same.

    Raises:
        UserError: if it is there and was written for something else.
    """
    if not request.file.is_file():
        return False
    first = request.file.read_text(encoding="utf-8", errors="replace").partition("\n")[0]
    if first != f"# {on_one_line(f'Written by: {command_of(request)}')}":
        raise UserError(
            f"expected {request.file} to be written for this model and these data, got {first[:200]!r}; "
            "name another directory with --output"
        )
    return True


def commented_yaml(document: Mapping[str, Any], notes: Mapping[str, str], heading: Iterable[str] = ()) -> str:
    """Return a document as YAML with comments; any reader of YAML reads the document alone.

    What fits on a line and has no comment inside stands on one.

    Args:
        document: keys and values.
        notes: what stands beside a key, or above it where it is long, by its dotted path.
        heading: lines before the first key.
    """
    said = {path: line for path, note in notes.items() if (line := on_one_line(note))}
    lines = [f"# {on_one_line(line)}" for line in heading]
    for key, value in document.items():
        lines += _lines(str(key), value, str(key), said, "")
    return "\n".join(lines) + "\n"


def _lines(key: str, value: Any, path: str, notes: Mapping[str, str], indent: str) -> Iterator[str]:
    name = write_yaml(key, on_one_line=True)
    whole = f"{indent}{name}: {write_yaml(value, on_one_line=True)}"
    is_noted_inside = any(each.startswith(f"{path}.") for each in notes)
    has_keys = isinstance(value, dict) or (
        isinstance(value, list) and all(isinstance(each, dict) for each in value)
    )
    if not (value and has_keys) or (len(whole) <= WIDTH and not is_noted_inside):
        yield from _noted(whole, notes.get(path), indent)
        return
    yield from _noted(f"{indent}{name}:", notes.get(path), indent)
    if isinstance(value, dict):
        for inner, each in value.items():
            yield from _lines(str(inner), each, f"{path}.{inner}", notes, f"{indent}  ")
        return
    for place, each in enumerate(value):
        inner_lines = [
            line
            for inner, one in each.items()
            for line in _lines(str(inner), one, f"{path}.{place}.{inner}", notes, f"{indent}    ")
        ]
        written = len(indent) + 4  # white space behind it is a key's own
        first = next(number for number, line in enumerate(inner_lines) if line[written] != "#")
        inner_lines[first] = f"{indent}  - {inner_lines[first][written:]}"
        yield from inner_lines


def _noted(line: str, note: str | None, indent: str) -> Iterator[str]:
    if note is None:
        yield line
    elif len(line) + len(note) + 4 <= WIDTH:
        yield f"{line}  # {note}"
    else:
        yield from textwrap.wrap(
            note, WIDTH, initial_indent=f"{indent}# ", subsequent_indent=f"{indent}# ", break_long_words=False
        )
        yield line
