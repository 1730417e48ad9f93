import pytest

from nvreg.demo.progress import training_progress


def test_plain_lines_without_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with training_progress("x", 25) as advance:
        for step in range(25):
            advance(1.5 + step)
    captured = capsys.readouterr()
    lines = captured.err.splitlines()
    assert captured.out == ""
    assert len(lines) == 12
    assert lines[0].startswith("training x: step 2 of 25, loss 2.50, ")
    assert all(line.endswith(" s left") for line in lines)


def test_a_bar_with_the_time_left_in_a_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.delenv("TTY_COMPATIBLE", raising=False)
    with training_progress("x", 3) as advance:
        for _ in range(3):
            advance(0.25)
    err = capsys.readouterr().err
    assert "loss 0.25" in err
    assert "0:00:00" in err
