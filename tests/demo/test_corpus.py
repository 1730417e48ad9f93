import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from nvreg.demo.corpus import DOMAINS, read_records, write_corpora
from nvreg.demo.recipe import RECIPES
from nvreg.demo.records import KINDS

SMALL = {
    task: replace(recipe, training_examples=400, validation_examples=30, test_examples=40)
    for task, recipe in RECIPES.items()
}
TASKS = pytest.mark.parametrize("task", RECIPES)


@pytest.fixture(scope="module")
def corpora(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("corpora")
    for task, recipe in SMALL.items():
        (directory / task).mkdir()
        write_corpora(directory / task, task, seed=0, recipe=recipe)
    return directory


def contents(directory: Path) -> dict[str, bytes]:
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.glob("*/*")}


@TASKS
def test_files_and_sizes(corpora: Path, task: str) -> None:
    sizes = {name: len(text.splitlines()) for name, text in contents(corpora / task).items()}
    expected = {f"{domain.name}/validation.jsonl": 30 for domain in DOMAINS}
    expected |= {f"{domain.name}/test.jsonl": 40 for domain in DOMAINS}
    expected["village/train.jsonl"] = 400
    if RECIPES[task].pretraining:
        expected["general/train.jsonl"] = 400
    assert sizes == expected


@TASKS
def test_columns(corpora: Path, task: str) -> None:
    for path in (corpora / task).glob("*/*"):
        columns = KINDS[task].distinct if path.parent.name == "general" else KINDS[task].columns
        for record in read_records(path):
            assert tuple(record) == columns
            assert all(text.strip() == text and len(text) > 1 for text in record.values())
            assert all(record[column].endswith(".") for column in columns if column != "label")


@TASKS
def test_no_input_is_in_two_places(corpora: Path, task: str) -> None:
    for column in KINDS[task].distinct:
        texts = [record[column] for path in (corpora / task).glob("*/*") for record in read_records(path)]
        assert len(set(texts)) == len(texts)


def test_same_seed_gives_the_same_bytes_in_another_process(corpora: Path, tmp_path: Path) -> None:
    code = (
        "from pathlib import Path; from nvreg.demo.corpus import write_corpora; "
        "from nvreg.demo.recipe import Recipe, Training; "
        f"write_corpora(Path({str(tmp_path)!r}), 'classification', 0, {SMALL['classification']!r})"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "12345"}
    root = Path(__file__).resolve().parents[2]
    subprocess.run([sys.executable, "-c", code], check=True, env=environment, cwd=root)
    assert contents(tmp_path) == contents(corpora / "classification")


def test_another_seed_gives_another_language(corpora: Path, tmp_path: Path) -> None:
    write_corpora(tmp_path, "translation", seed=1, recipe=SMALL["translation"])
    directories = (corpora / "translation", tmp_path)
    old, new = (read_records(directory / "village" / "train.jsonl") for directory in directories)
    words = [{word for pair in pairs for word in pair["target"].split()} for pairs in (old, new)]
    assert len(words[0] & words[1]) < 0.05 * len(words[0])


def test_training_examples_do_not_change_the_evaluation(corpora: Path, tmp_path: Path) -> None:
    write_corpora(tmp_path, "translation", 0, replace(SMALL["translation"], training_examples=10))
    for split in ("validation", "test"):
        name = f"village/{split}.jsonl"
        assert contents(tmp_path)[name] == contents(corpora / "translation")[name]


def test_general_texts_are_of_every_domain(corpora: Path) -> None:
    texts = (corpora / "classification" / "general" / "train.jsonl").read_text().splitlines()
    inverted = [" wen " in f" {json.loads(text)['text']}" for text in texts]
    verse = [domain.name for domain in DOMAINS].index("verse")
    shares = [sum(inverted[place :: len(DOMAINS)]) / (400 / len(DOMAINS)) for place in range(len(DOMAINS))]
    assert shares[verse] > 0.6
    assert max(share for place, share in enumerate(shares) if place != verse) < 0.1
