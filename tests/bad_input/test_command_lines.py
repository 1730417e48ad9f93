"""Command lines that cannot be meant: exit code 2, and a line that says what is wrong."""

import pytest

from nvreg.cli import COMMANDS
from nvreg.text import visible
from tests.bad_input.checking import files_of, in_time
from tests.cli.running import run

WORDS = [
    "",
    "--no-such-\u202eoption",
    "-x",
    "no/such/file",
    "--output",
    "--config=",
    "--set=a",
    "--set==",
    "a b",
    "\x1b[2J",
]

MEANT = {("demo", word) for word in ("", "no/such/file", "a b", "\x1b[2J")}
"""Those that can be meant: a directory that is written may have any name."""

LINES = [line for command in COMMANDS for word in WORDS if (line := (command, word)) not in MEANT]
LINES += [
    ("sweep", "--config", "none.yaml", "--trials", "0"),
    ("sweep", "--config", "none.yaml", "--trials", "x"),
    ("sweep", "--config", "none.yaml", "--workers", "-1"),
    ("sweep", "--config", "none.yaml", "--trials", "9" * 5000),
    ("sweep", "--config", "."),
    ("sweep", "--config", "/dev/null"),
    ("sweep", "--config", "none.yaml", "--executor", "threads"),
    ("finetune", "--config", "."),
    ("finetune", "--config", "/dev/null"),
    ("report", "."),
    ("report", ".", "--format", "word"),
    ("report", "none", "--examples", "-1"),
    ("compare", ".", "."),
    ("compare", "none", "nor this"),
    ("prior", "none", "out", "--data", "none", "--column", "x"),
    ("prior", "none", "no/such/dir/out", "--data", "none", "--column", "x"),
    ("convert", "none", "out", "--tau-sigma", "x"),
    ("convert", "none", "out", "--tau-sigma", "1e160"),
    ("convert", "none", "out", "--tau-sigma", "nan"),
    ("convert", "none", "out", "--tau-alpha", "encoder=,"),
    ("convert", "none", "out", "--tau-alpha", "=3"),
    ("convert", "none", "out", "--prior-weight", "1", "--prior-data", "x", "--column", "y"),
    ("export", ".", "out", "--protocol", "best"),
    ("export", "none", "out", "--protocol", "oracle"),
    ("inspect", "none", "--data", "none"),
    ("fisher", "none", "out", "--data", "none", "--column", "x"),
    ("fisher", "none", "out", "--data", "none", "--column", "x", "--limit", "0"),
    ("schema", "--kind", "none"),
    ("architectures", "--format", "none"),
    ("swep",),
    ("",),
    ("--debug",),
    ("prior", "--" + "long" * 2000),
    ("sweep", "--confg", "none.yaml"),
    ("--non\u202esense",),
    ("report", "none", "--output", "\u202efile"),
]  # fmt: skip


@pytest.mark.parametrize(
    "line", LINES, ids=lambda line: " ".join(line)[:60].encode("unicode_escape").decode()
)
def test_a_command_line_that_cannot_be_meant_ends_with_2(line, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "\u202efile").touch()
    with in_time():
        result = run(*line)
    assert visible(result.output) == result.output
    assert result.exit_code == 2, f"{result.output} {result.exception!r}"
    *before, said = result.stderr.splitlines()
    assert said.startswith("nvreg: ")
    assert len(before) < 2  # what it was about to do
    assert len(said) < 1000
    assert result.stdout == ""
    assert files_of(tmp_path) == {"\u202efile": 0}
