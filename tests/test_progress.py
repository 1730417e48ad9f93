"""What is shown while a command works, in a terminal and elsewhere."""

import pytest

from nvreg.progress import Progress

HOSTILE = "reading [/bold] [link=http://evil.example]a \x1b]0;b\x07 \u202ec"
SHOWN = r"reading [/bold] [link=http://evil.example]a \x1b]0;b\x07 \u202ec"


@pytest.mark.parametrize("is_terminal", [True, False])
def test_names_are_text_without_markup_or_controls(is_terminal, monkeypatch, capsys):
    monkeypatch.setenv("TTY_COMPATIBLE", str(int(is_terminal)))
    monkeypatch.setenv("COLUMNS", "200")
    with Progress() as progress:
        assert progress.is_live == is_terminal
        progress.phase(HOSTILE, 1)
        progress.running([HOSTILE])
        progress.leaders([(HOSTILE, HOSTILE)])
        progress.step()
        progress.say(HOSTILE)
        progress.warn([HOSTILE])
    shown = capsys.readouterr().err
    assert shown.count(SHOWN) >= 3
    assert "\x1b]" not in shown
    assert "\x07" not in shown
    assert "\u202e" not in shown


def test_what_is_run_of_others_is_said_when_quiet_too(capsys):
    with Progress(quiet=True) as progress:
        progress.say("not this")
        progress.warn(["running code"])
    assert capsys.readouterr().err == "running code\n"


def test_what_takes_long_is_said_before_it_begins(capsys):
    with Progress() as progress:
        progress.start(total=31, left=30, steps=6)
        assert capsys.readouterr().err == "measuring 30 of 31 trials\n"
        progress.start(total=31, left=0, steps=6)
    assert capsys.readouterr().err == ""
