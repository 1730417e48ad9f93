"""What the commands say of themselves, and what a shell completes."""

import os
import shlex
import subprocess
import sys

import pytest
import typer

from nvreg.cli import COMMANDS, described, make_app
from tests.cli.running import run


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_examples_that_it_takes(name):
    text, examples = described(COMMANDS[name])
    assert text[0].isupper()
    assert examples
    command = typer.main.get_command(make_app()).commands[name]
    for example in examples:
        program, called, *arguments = shlex.split(example)
        assert (program, called) == ("nvreg", name)
        command.make_context(called, arguments)  # or a mistake


@pytest.mark.parametrize("name", COMMANDS)
def test_help_shows_them_as_they_are_typed(name):
    shown = run(name, "--help").stdout
    _, examples = described(COMMANDS[name])
    for example in examples:
        assert example in shown.replace("\n ", " ").replace("  ", " ") or all(
            part in shown for part in example.split()
        )


def completed(line: str) -> list[str]:
    """What bash is offered behind a line."""
    script = "import sys; sys.argv[0] = 'nvreg'; from nvreg.cli import main; main()"
    words = line.split(" ")
    environment = os.environ | {
        "_NVREG_COMPLETE": "complete_bash",
        "COMP_WORDS": line,
        "COMP_CWORD": str(len(words) - 1),
    }
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment)
    return done.stdout.split()


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("nvreg sw", ["sweep"]),
        ("nvreg sweep --method nv-h", ["nv-heads", "nv-heads-no-interpolation"]),
        ("nvreg init --task t", ["translation", "token-classification"]),
        ("nvreg report --protocol in-domain-", ["in-domain-tolerance"]),
        ("nvreg export --protocol o", ["out-of-domain-validation", "oracle"]),
        ("nvreg schema --kind f", ["finetune", "finetune-manifest", "fisher"]),
    ],
)
def test_a_shell_completes_names(line, expected):
    assert completed(line) == expected


def test_completion_can_be_installed():
    assert "--install-completion" in run("--help").stdout
