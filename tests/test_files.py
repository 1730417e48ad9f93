import ast
import errno
import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

import nvreg
from nvreg import Prior, UserError
from nvreg.errors import NvregWarning, explained
from nvreg.files import (
    HOLDER,
    changed_files,
    check_digests,
    check_file,
    check_output,
    claim,
    exclusive,
    is_held,
    whole_directory,
    write_bytes,
    write_digests,
    write_text,
)
from nvreg.models.loading import load_config

ROOT = Path(__file__).parents[1]
PACKAGE = Path(nvreg.__file__).parent
DEEP = "[" * 100_000
NOBODY = 2**22 + 1
"""The number of no process."""

OURS = {"name": "mine", "data": {"home": "digest"}}


def theirs_of(manifest):
    return {"name": manifest["name"], "data": manifest["data"]}


def test_a_directory_that_is_new_or_this_run_s_is_accepted(tmp_path):
    check_output(tmp_path, OURS, theirs_of)
    check_output(tmp_path / "new", OURS, theirs_of)
    (tmp_path / "manifest.json").write_text(json.dumps(OURS | {"more": 1}))
    check_output(tmp_path, OURS, theirs_of)


def test_another_run_s_is_refused_with_what_differs(tmp_path):
    (tmp_path / "manifest.json").write_text(json.dumps({"name": "other", "data": {"home": "more"}}))
    with pytest.raises(UserError, match=r"differs in data\.home, name; choose another"):
        check_output(tmp_path, OURS, theirs_of)


@pytest.mark.parametrize("content", ["", "no JSON", DEEP, "[]", "{}", '{"name": "mine"}'])
def test_a_manifest_of_something_else_is_refused(tmp_path, content):
    (tmp_path / "manifest.json").write_text(content)
    with pytest.raises(UserError, match="with another kind of manifest"):
        check_output(tmp_path, OURS, theirs_of)


@pytest.mark.parametrize("content", ["", DEEP, "[]", '{"files": 1}'])
def test_a_broken_list_of_what_nvreg_wrote_is_refused_by_name(tmp_path, content):
    (tmp_path / ".nvreg.json").write_text(content)
    with pytest.raises(UserError, match=r"\.nvreg\.json as nvreg wrote it, got another; remove it"):
        claim(tmp_path, ["a.csv"])


@pytest.mark.parametrize("content", ["", DEEP, "[]"])
def test_broken_digests_are_noticed(tmp_path, content):
    (tmp_path / "digests.json").write_text(content)
    assert changed_files(tmp_path) == ["digests.json"]


def test_a_directory_with_files_and_a_file_are_refused(tmp_path):
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(UserError, match="expected a new or empty output directory"):
        check_output(tmp_path, OURS, theirs_of)
    with pytest.raises(UserError, match="expected an output directory, got"):
        check_output(tmp_path / "thesis.tex", OURS, theirs_of)


OTHER_THAN_FILES = {
    "a symbolic link": lambda path: path.symlink_to(path.with_name("precious")),
    "a directory": Path.mkdir,
    "a device or pipe": os.mkfifo,
}


@pytest.mark.parametrize("kind", OTHER_THAN_FILES)
def test_nothing_but_a_file_is_ever_replaced(tmp_path, kind):
    (tmp_path / "precious").write_text("of someone")
    OTHER_THAN_FILES[kind](path := tmp_path / "out")
    for write in (
        lambda: write_bytes(path, b"ours"),
        lambda: check_file(path, "mark", force=True),
        lambda: claim(tmp_path, ["out"], force=True),
    ):
        with pytest.raises(UserError, match=f"got {kind}; choose another name"):
            write()
    assert {each.name for each in tmp_path.iterdir()} == {"precious", "out"}
    assert (tmp_path / "precious").read_text() == "of someone"


def test_a_command_s_file_takes_the_place_of_its_own_kind_or_by_force_of_any(tmp_path):
    check_file(path := tmp_path / "out", "nvreg-kind-1")
    path.write_text('{"format": "nvreg-kind-1"}')
    check_file(path, "nvreg-kind-1")
    path.write_text("a thesis")
    with pytest.raises(UserError, match="or add --force to replace it"):
        check_file(path, "nvreg-kind-1")
    check_file(path, "nvreg-kind-1", force=True)
    with pytest.raises(UserError, match="in a directory that exists"):
        check_file(tmp_path / "no" / "out", "nvreg-kind-1")


def test_a_directory_of_a_command_s_files_is_new_or_its_own_or_taken_by_force(tmp_path):
    claim(output := tmp_path / "deep" / "output", ["a.csv"])
    (output / "a.csv").write_text("1")
    claim(output, ["a.csv", "b.csv"])
    (output / "c.csv").write_text("of someone")
    with pytest.raises(UserError, match=r"a file that nvreg wrote at .*c\.csv, got another"):
        claim(output, ["c.csv"])
    (other := tmp_path / "other").mkdir()
    (other / "thesis.tex").touch()
    with pytest.raises(UserError, match="expected a new or empty directory, or one that nvreg wrote"):
        claim(other, ["a.csv"])
    claim(other, ["thesis.tex"], force=True)
    claim(other, ["thesis.tex"])
    with pytest.raises(UserError, match="expected a directory to write to, got a file"):
        claim(output / "a.csv", ["a.csv"])


def test_one_run_at_a_time_writes_a_directory(tmp_path):
    script = (
        "import sys, pathlib; from nvreg.files import exclusive\n"
        "with exclusive(pathlib.Path(sys.argv[1])): pass"
    )
    with exclusive(tmp_path):
        second = subprocess.run([sys.executable, "-c", script, tmp_path], capture_output=True, text=True)
        assert "UserError: expected a directory that no other run is writing" in second.stderr
    assert subprocess.run([sys.executable, "-c", script, tmp_path]).returncode == 0


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_written_with_a_warning(number, tmp_path, monkeypatch):
    fcntl = pytest.importorskip("fcntl")

    def fails(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", fails)
    (tmp_path / f".a.{NOBODY}.part").touch()
    with pytest.warns(NvregWarning, match="has no locks .*: start no second run there"), exclusive(tmp_path):
        assert not list(tmp_path.glob("*.part"))


@pytest.mark.parametrize("content", ["", DEEP, "[]", "{}", '{"machine": 1}', None])
def test_a_broken_note_of_who_writes_a_directory_says_nothing(tmp_path, content):
    note = tmp_path / HOLDER
    os.mkfifo(note) if content is None else note.write_text(content)
    assert not is_held(tmp_path)


@pytest.mark.parametrize("process", [-1, 10**30, "a", None, NOBODY])
def test_a_process_that_cannot_be_holds_no_directory(tmp_path, process):
    (tmp_path / HOLDER).write_text(json.dumps({"machine": platform.node(), "process": process}))
    assert not is_held(tmp_path)


SOURCES = sorted(path for each in (PACKAGE, ROOT / "scripts") for path in each.rglob("*.py"))


def test_no_text_is_read_or_written_in_the_encoding_of_the_machine():
    found = []
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and _depends_on_the_machine(node):
                found.append(f"{path}:{node.lineno}")
    assert len(SOURCES) > 100
    assert not found


def _depends_on_the_machine(call):
    function = ast.unparse(call.func)
    if function in ("os.open", "webbrowser.open"):
        return False
    if any(keyword.arg in ("encoding", None) for keyword in call.keywords):
        return False
    if function == "open" or function.endswith(".open"):
        return not any("b" in each.value for each in call.args if isinstance(each, ast.Constant))
    return function.endswith((".read_text", ".write_text"))


def test_what_killed_processes_were_writing_is_removed_and_nothing_else(tmp_path):
    others = [f".a.txt.{os.getpid()}.part", ".a.part", f"a.txt.{NOBODY}.part", f".b.txt.{NOBODY}.part"]
    (tmp_path / "examples").mkdir()
    for name in [*others, f".a.txt.{NOBODY}.part", f"examples/.c.{NOBODY}.part"]:
        (tmp_path / name).touch()
    write_text(tmp_path / "a.txt", "whole")
    assert {path.name for path in tmp_path.iterdir()} == {"a.txt", "examples", *others} - {others[0]}
    with exclusive(tmp_path):
        assert not (tmp_path / others[3]).exists()
        assert not list((tmp_path / "examples").iterdir())
        assert (tmp_path / others[2]).exists()


def test_a_directory_is_whole_or_not_there(tmp_path):
    out = tmp_path / ("n" * 240)

    def fill(*, fails):
        with whole_directory(out) as aside:
            (aside / "first").touch()
            if fails:
                raise RuntimeError("No space left on device (os error 28)")
            (aside / "second").touch()

    (tmp_path / f".{'n' * 240}.{NOBODY}.part").mkdir()
    with pytest.raises(UserError, match=r"expected space on the disk for .*n, got none"):
        fill(fails=True)
    assert not list(tmp_path.iterdir())
    out.mkdir()
    fill(fails=False)
    assert {path.name for path in out.iterdir()} == {"first", "second"}
    assert [path.name for path in tmp_path.iterdir()] == [out.name]


def test_what_says_that_files_are_complete_is_written_once_they_are_on_disk(tmp_path, monkeypatch):
    flushed, fsync = set(), os.fsync
    monkeypatch.setattr(os, "fsync", lambda file: (flushed.add(os.fstat(file).st_ino), fsync(file)))
    with whole_directory(tmp_path / "out") as aside:
        (aside / "inner").mkdir()
        for name in ("a", "inner/b"):
            (aside / name).write_text("by a library")
            (aside / name).chmod(0o444)
    assert flushed == {path.stat().st_ino for path in tmp_path.rglob("*") if path.is_file()}
    flushed.clear()
    (tmp_path / "w.safetensors").write_text("by a library")
    (tmp_path / "config.json").write_text("by a library")
    write_digests(tmp_path, "*.safetensors")
    assert flushed >= {path.stat().st_ino for path in tmp_path.glob("*") if path.is_file()}


@pytest.mark.parametrize(
    "number", [errno.ENOSPC, errno.EROFS, errno.EACCES, errno.ENAMETOOLONG, errno.EBUSY, errno.ENXIO]
)
def test_what_the_system_says_of_a_place_is_one_line_with_the_place(number, tmp_path, monkeypatch):
    def fails(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fails)
    with pytest.raises(OSError) as raised:  # noqa: PT011 - its text is what is looked at
        write_text(tmp_path / "a.txt", "whole")
    line = explained(raised.value)
    assert f"got {tmp_path / 'a.txt'} ({os.strerror(number)}); " in line
    assert not list(tmp_path.iterdir())


def test_memory_that_does_not_suffice_is_one_line():
    assert "expected memory" in explained(MemoryError())
    assert "expected memory" in explained(
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory")
    )
    assert "expected memory" in explained(OSError(errno.ENOMEM, os.strerror(errno.ENOMEM)))
    assert explained(RuntimeError("a bug")) is None
    assert explained(KeyError("a")) is None


def test_a_pipe_where_a_file_belongs_is_refused_and_not_waited_for(tmp_path):
    (tmp_path / "a/b").mkdir(parents=True)
    for name in ("manifest.json", "a/b/examples", "digests.json", ".nvreg.json", "x.safetensors", "x.json"):
        os.mkfifo(pipe := tmp_path / name)
        readers = {
            "manifest.json": lambda: check_output(tmp_path, OURS, theirs_of),
            "a/b/examples": lambda: exclusive(tmp_path).__enter__(),
            "digests.json": lambda: check_digests(tmp_path),
            ".nvreg.json": lambda: claim(tmp_path, ["a.csv"]),
            "x.safetensors": lambda: Prior.load(tmp_path / "x.safetensors"),
            "x.json": lambda: load_config(tmp_path),
        }
        with pytest.raises(UserError, match=f"expected a file at {pipe}, got a device or pipe; remove it"):
            readers[name]()
        pipe.unlink()
