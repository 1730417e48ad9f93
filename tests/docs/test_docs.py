"""What the pages show is what nvreg takes: commands are parsed, files checked, Python run."""

import json
import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import typer
from pydantic import ValidationError
from transformers import AutoModelForCausalLM

from nvreg.cli import make_app
from nvreg.config import Section
from nvreg.config.loading import read_yaml
from nvreg.experiment import Experiment
from nvreg.finetune.schema import FineTuning
from nvreg.protocols import PROTOCOLS, Evidence, Positions, Protocol
from tests.tiny import LEXICON, tiny_marian

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
OF_A_PACKAGE = {"plugins.md"}
"""Pages whose files and Python need a package, and are tested with it in tests/test_plugins.py."""
SLOW = {"README.md"}
"""Pages whose Python runs a model."""


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)


def named(pages: list[Path]) -> list[Any]:
    return [pytest.param(page, id=str(page.relative_to(ROOT))) for page in pages]


@pytest.mark.parametrize("page", named([page for page in PAGES if blocks(page, "sh")]))
def test_commands_are_ones_that_there_are(page):
    group = typer.main.get_command(make_app())
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    context = group.make_context("nvreg", [], resilient_parsing=True)
    for line in "".join(blocks(page, "sh")).replace("\\\n", " ").splitlines():
        words = shlex.split(re.split(r"\s[>|]\s", line)[0], comments=True)
        if words[:1] == ["make"]:
            assert {word for word in words[1:] if "=" not in word and "/" not in word} <= targets, line
        if words[:1] == ["nvreg"] and len(words) > 1 and not words[1].startswith("-"):
            name, command, arguments = group.resolve_command(context, words[1:])
            command.make_context(name, list(arguments))  # or a mistake


def mistakes(schema: type[Section], document: dict[str, Any]) -> set[str]:
    """The kinds of mistakes that a file has."""
    try:
        schema.model_validate(document, context={"directory": ROOT})
    except ValidationError as error:
        return {each["type"] for each in error.errors()}
    return set()


@pytest.mark.parametrize(
    "page", named([page for page in PAGES if blocks(page, "yaml") and page.name not in OF_A_PACKAGE])
)
def test_files_have_keys_and_values_that_there_are(page):
    for block in blocks(page, "yaml"):
        document = read_yaml(block)
        assert isinstance(document, dict), block
        schema = FineTuning if {"method", "training"} & document.keys() else Experiment
        if not document.keys() <= schema.model_fields.keys():
            continue  # a part of a section
        assert mistakes(schema, document) <= {"missing"}, block  # a part of a file


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, id=page.name, marks=pytest.mark.slow if page.name in SLOW else ())
        for page in PAGES
        if blocks(page, "python") and page.name not in OF_A_PACKAGE
    ],
)
def test_python_runs(page, tmp_path, monkeypatch):
    model, tokenizer = tiny_marian()
    batch = tokenizer(["a cat .", "a big dog ."], return_tensors="pt", padding=True)
    batch |= {"labels": tokenizer([LEXICON["a"]] * 2, return_tensors="pt").input_ids}
    generated = {name: batch[name] for name in ("input_ids", "attention_mask")}
    monkeypatch.setattr(model, "generate", lambda *_: type(model).generate(model, **generated, max_length=4))
    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", lambda _: model)
    for name in list(PROTOCOLS):
        monkeypatch.setitem(PROTOCOLS, name, PROTOCOLS[name])
    known: dict[str, Any] = {
        **{"model": model, "tokenizer": tokenizer, "batches": [dict(batch)], "path": tmp_path / "out"},
        **{"np": np, "Evidence": Evidence, "Positions": Positions, "PROTOCOLS": PROTOCOLS},
        **{"Protocol": Protocol, "torch": torch},
    }
    known_protocols = set(PROTOCOLS)
    for block in blocks(page, "python"):
        exec(compile(block, str(page), "exec"), known)
    for name in set(PROTOCOLS) - known_protocols:
        del PROTOCOLS[name]


@pytest.mark.slow
@pytest.mark.parametrize("notebook", named(sorted((ROOT / "docs").rglob("*.ipynb"))))
def test_notebooks_run(notebook):
    known: dict[str, Any] = {}
    cells = json.loads(notebook.read_text())["cells"]
    for cell in cells:
        if cell["cell_type"] == "code":
            assert not cell["outputs"], "expected a notebook without outputs, which are of one machine"
            exec(compile("".join(cell["source"]), str(notebook), "exec"), known)
    assert known["converted"] != known["pretrained"] != known["noisy"]
