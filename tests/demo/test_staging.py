from pathlib import Path

import pytest

from nvreg.demo.staging import is_made, staged
from nvreg.errors import UserError


def make(directory: Path, stamp: str, content: str = "content") -> None:
    with staged(directory, stamp) as aside:
        (aside / "file").write_text(content)


def entries(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def test_made_when_the_block_ends(tmp_path: Path) -> None:
    directory = tmp_path / "new" / "translation"
    with staged(directory, "stamp") as aside:
        assert list(aside.iterdir()) == []
        (aside / "file").write_text("content")
        assert not directory.exists()
    assert (directory / "file").read_text() == "content"
    assert is_made(directory, "stamp")
    assert not is_made(directory, "another stamp")
    assert entries(tmp_path / "new") == ["translation"]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_not_made_when_the_block_fails(tmp_path: Path, error: type[BaseException]) -> None:
    directory = tmp_path / "translation"
    with pytest.raises(error), staged(directory, "stamp"):
        raise error
    assert not directory.exists()
    assert not is_made(directory, "stamp")
    make(directory, "stamp")
    assert entries(tmp_path) == ["translation"]


def test_failure_leaves_what_was_made_before(tmp_path: Path) -> None:
    directory = tmp_path / "translation"
    make(directory, "old")
    with pytest.raises(RuntimeError), staged(directory, "new"):
        raise RuntimeError
    assert is_made(directory, "old")


def test_replaces_what_was_made_before(tmp_path: Path) -> None:
    directory = tmp_path / "translation"
    make(directory, "old", "old")
    (directory / "extra").touch()
    make(directory, "new", "new")
    assert is_made(directory, "new")
    assert (directory / "file").read_text() == "new"
    assert "extra" not in entries(directory)
    assert entries(tmp_path) == ["translation"]


def test_made_after_a_kill_between_the_renames(tmp_path: Path) -> None:
    directory = tmp_path / "translation"
    make(directory, "old")
    directory.rename(tmp_path / ".translation.replaced")
    make(directory, "new")
    assert is_made(directory, "new")
    assert entries(tmp_path) == ["translation"]


def test_files_of_others_are_left_alone(tmp_path: Path) -> None:
    directory = tmp_path / "translation"
    directory.mkdir()
    (directory / "mine.txt").write_text("mine")
    with pytest.raises(UserError, match="found other files"):
        make(directory, "stamp")
    assert (directory / "mine.txt").read_text() == "mine"


def test_a_file_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="expected a directory to write to, got"):
        make(tmp_path / "file" / "translation", "stamp")
