"""What the audit makes of the answers of pip-audit, of which there are none without a connection."""

import json
import subprocess
from subprocess import CompletedProcess

import pytest

from scripts import audit

SOUND = {"name": "a", "version": "1", "vulns": []}
WEAK = {"name": "b", "version": "2", "vulns": [{"id": "CVE-1", "fix_versions": ["2.1"]}]}
UNKNOWN = {"name": "c", "version": "3", "skip_reason": "not found"}


@pytest.mark.parametrize(
    ("dependencies", "code", "said"),
    [
        ([SOUND, UNKNOWN], 0, "0 of 1 dependencies have known weaknesses"),
        ([SOUND, WEAK], 1, "b 2: CVE-1; mended in 2.1"),
        ([UNKNOWN], 0, "audit: skipped"),
        (None, 0, "audit: skipped, the lists of known weaknesses are out of reach (ERROR: no connection)"),
    ],
)
def test_weaknesses_fail_and_silence_is_said(dependencies, code, said, monkeypatch, capsys):
    answer = "" if dependencies is None else json.dumps({"dependencies": dependencies})

    def answered(*_, **__):
        return CompletedProcess([], 1, answer, "ERROR: no connection\n")

    monkeypatch.setattr(subprocess, "run", answered)
    assert audit.main([]) == code
    assert said in capsys.readouterr().out


def test_lists_that_do_not_answer_are_skipped(monkeypatch, capsys):
    def waits(*_, **__):
        raise subprocess.TimeoutExpired("pip_audit", 300)

    monkeypatch.setattr(subprocess, "run", waits)
    assert audit.main([]) == 0
    assert "skipped" in capsys.readouterr().out
