"""Pages that are made from the code, and links from docs to other files."""

import re

import pytest

pytest.importorskip("mkdocs", reason="the extra docs is not installed")

from nvreg.cli import COMMANDS, described
from nvreg.experiment import Experiment
from scripts.site import ROOT, WHOLE, commands_page, keys_page, links_of, relinked


def test_every_command_and_its_examples_are_in_the_reference():
    page = commands_page()
    for name, command in COMMANDS.items():
        _, examples = described(command)
        assert f"## nvreg {name}\n" in page
        assert all(f"    {example}" in page for example in examples)
    assert "| `--task` | What the model is to do. | told by the model and the data |" in page
    assert "| `MODEL` | Directory of a checkpoint, or its name on the hub. |" in page


def test_every_key_of_a_file_is_in_its_reference():
    page = keys_page("Keys", Experiment)
    assert "| `trials` | a whole number |  | Settings to try of each method and seed" in page
    assert "| `num_beams` | a whole number | `4` | Number of beams; 1 is greedy decoding. |" in page
    assert "| `protocols` | list of `in-domain`, `in-domain-tolerance`" in page
    assert "| `name` | text | needed | Name of the experiment, in its report. |" in page
    assert "## sweep.methods.mc-dropout\n" in page
    assert page.count("## data.in_domain.test\n\n") == 1
    assert "The keys are those of data.in_domain.train." in page
    assert not re.search(r"\{'|'\}", page)


@pytest.mark.parametrize(
    ("path", "written", "led"),
    [
        ("README.md", "[a](docs/start.md)", "[a](start.md)"),
        ("README.md", "[a](results/real/README.md#tables)", "[a](results/real/README.md#tables)"),
        ("README.md", "![a](results/real/a.png)", "![a](results/real/a.png)"),
        (
            "docs/demo.md",
            "[a](../results/embedded/rivals/combined.md)",
            "[a](results/embedded/rivals/combined.md)",
        ),
        ("docs/how-to/own-data.md", "[a](../../CONTRIBUTING.md)", "[a](../CONTRIBUTING.md)"),
        ("docs/how-to/own-data.md", "[a](../tasks.md) `[b](../../x)`", "[a](../tasks.md) `[b](../../x)`"),
        ("results/real/README.md", "[a](../../README.md)", "[a](../../index.md)"),
        ("results/real/README.md", "[files](experiments) [b](https://c.d/e)", "files [b](https://c.d/e)"),
    ],
)
def test_links_lead_to_where_the_site_has_what_they_name(path, written, led):
    assert relinked(written, path) == led


def test_what_pages_link_to_is_there():
    pages = [
        *WHOLE,
        "SECURITY.md",
        *(path.relative_to(ROOT).as_posix() for path in ROOT.glob("docs/**/*.md")),
    ]
    targets = [(page, target) for page in pages for target in links_of(page)]
    assert ("README.md", "docs/start.md") in targets
    assert [(page, target) for page, target in targets if not (ROOT / target).exists()] == []
