import os
import subprocess
import sys
from pathlib import Path

import pytest

from nvreg.demo.corpus import read_pairs, write_corpora
from nvreg.demo.domains import IN_DOMAIN, OUT_OF_DOMAIN
from nvreg.demo.recipe import Recipe

SMALL = Recipe(training_pairs=1500, validation_pairs=60, test_pairs=90)


@pytest.fixture(scope="module")
def corpora(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("corpora")
    write_corpora(directory, seed=0, recipe=SMALL)
    return directory


def contents(directory: Path) -> dict[str, bytes]:
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.glob("*/*")}


def test_files_and_sizes(corpora: Path) -> None:
    sizes = {name: len(text.splitlines()) for name, text in contents(corpora).items()}
    expected = {f"{domain.name}/validation.jsonl": 60 for domain in (IN_DOMAIN, *OUT_OF_DOMAIN)}
    expected |= {f"{domain.name}/test.jsonl": 90 for domain in (IN_DOMAIN, *OUT_OF_DOMAIN)}
    assert sizes == expected | {f"{IN_DOMAIN.name}/train.jsonl": 1500}


def test_columns(corpora: Path) -> None:
    for path in corpora.glob("*/*"):
        for pair in read_pairs(path):
            assert list(pair) == ["source", "target"]
            assert all(
                text.endswith(".") and text.strip() == text and len(text) > 1 for text in pair.values()
            )


@pytest.mark.parametrize("side", ["source", "target"])
def test_no_sentence_is_in_two_places(corpora: Path, side: str) -> None:
    sentences = [pair[side] for path in corpora.glob("*/*") for pair in read_pairs(path)]
    assert len(set(sentences)) == len(sentences) == 1500 + 5 * 150


def test_same_seed_gives_the_same_bytes_in_another_process(corpora: Path, tmp_path: Path) -> None:
    code = (
        "from pathlib import Path; from nvreg.demo.corpus import write_corpora; "
        "from nvreg.demo.recipe import Recipe; "
        f"write_corpora(Path({str(tmp_path)!r}), 0, {SMALL!r})"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "12345"}
    root = Path(__file__).resolve().parents[2]
    subprocess.run([sys.executable, "-c", code], check=True, env=environment, cwd=root)
    assert contents(tmp_path) == contents(corpora)


def test_another_seed_gives_another_language(corpora: Path, tmp_path: Path) -> None:
    write_corpora(tmp_path, seed=1, recipe=SMALL)
    old, new = (read_pairs(directory / "village" / "train.jsonl") for directory in (corpora, tmp_path))
    words = [{word for pair in pairs for word in pair["target"].split()} for pairs in (old, new)]
    assert len(words[0] & words[1]) < 0.05 * len(words[0])


def test_training_pairs_do_not_change_the_evaluation(corpora: Path, tmp_path: Path) -> None:
    write_corpora(tmp_path, seed=0, recipe=Recipe(training_pairs=10, validation_pairs=60, test_pairs=90))
    for split in ("validation", "test"):
        name = f"village/{split}.jsonl"
        assert contents(tmp_path)[name] == contents(corpora)[name]
