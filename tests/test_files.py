import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

from nvreg import UserError
from nvreg.files import check_output, exclusive

ROOT = Path(__file__).parents[1]
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


@pytest.mark.parametrize("content", ["", "no JSON", "[]", "{}", '{"name": "mine"}'])
def test_a_manifest_of_something_else_is_refused(tmp_path, content):
    (tmp_path / "manifest.json").write_text(content)
    with pytest.raises(UserError, match="with another kind of manifest"):
        check_output(tmp_path, OURS, theirs_of)


def test_a_directory_with_files_and_a_file_are_refused(tmp_path):
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(UserError, match="expected a new or empty output directory"):
        check_output(tmp_path, OURS, theirs_of)
    with pytest.raises(UserError, match="expected an output directory, got"):
        check_output(tmp_path / "thesis.tex", OURS, theirs_of)


def test_one_run_at_a_time_writes_a_directory(tmp_path):
    script = (
        "import sys, pathlib; from nvreg.files import exclusive\n"
        "with exclusive(pathlib.Path(sys.argv[1])): pass"
    )
    with exclusive(tmp_path):
        second = subprocess.run([sys.executable, "-c", script, tmp_path], capture_output=True, text=True)
        assert "UserError: expected a directory that no other run is writing" in second.stderr
    assert subprocess.run([sys.executable, "-c", script, tmp_path]).returncode == 0


SOURCES = sorted(path for name in ("nvreg", "scripts") for path in (ROOT / name).rglob("*.py"))


def test_no_text_is_read_or_written_in_the_encoding_of_the_machine():
    found = []
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and _depends_on_the_machine(node):
                found.append(f"{path.relative_to(ROOT)}:{node.lineno}")
    assert len(SOURCES) > 100
    assert not found


def _depends_on_the_machine(call):
    function = ast.unparse(call.func)
    if any(keyword.arg in ("encoding", None) for keyword in call.keywords) or function == "os.open":
        return False
    if function == "open" or function.endswith(".open"):
        return not any("b" in each.value for each in call.args if isinstance(each, ast.Constant))
    return function.endswith((".read_text", ".write_text"))
