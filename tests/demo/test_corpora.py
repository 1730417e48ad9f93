"""What each task's examples say, worked out again from their words; and the files that hold them."""

import json
import os
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from random import Random
from statistics import mean

import pytest

from nvreg.demo.corpora import ATTITUDES, DOMAINS, KINDS, Record, read_records, write_corpora
from nvreg.demo.language import IN_DOMAIN, OUT_OF_DOMAIN, TOPIC, Domain, Lexicon
from nvreg.demo.recipe import RECIPES

LEXICON = Lexicon.draw(Random(0))
VILLAGE, HARBOUR, SAGA, VERSE, LETTERS = (IN_DOMAIN, *OUT_OF_DOMAIN)
VERBS = {
    verb.veluri: place % 3
    for field in (LEXICON.everyday, LEXICON.seafaring)
    for place, verb in enumerate(field.verbs)
}
NOUNS = {noun.veluri for field in (LEXICON.everyday, LEXICON.seafaring) for noun in field.nouns}


def draw(task: str, domain: Domain = VILLAGE, count: int = 300) -> list[Record]:
    """Examples without a slip."""
    rng = Random(1)
    return [KINDS[task].draw(replace(domain, slips=0), LEXICON, rng) for _ in range(count)]


def verb_of(word: str) -> str | None:
    return next((stem for stem in (word, word.removesuffix("s")) if stem in VERBS), None)


@pytest.mark.parametrize("domain", [VILLAGE, HARBOUR, SAGA, VERSE], ids=lambda domain: domain.name)
def test_a_label_is_the_attitude_that_prevails(domain: Domain) -> None:
    for record in draw("classification", domain):
        words = record["text"].replace(".", "").split()
        attitude = 0
        for before, word in zip(["", *words], words, strict=False):
            if verb := verb_of(word):
                attitude += (0, 1, -1)[VERBS[verb]] * (-1 if before == "nas" else 1)
        assert record["label"] == ATTITUDES[0 if not attitude else 1 if attitude > 0 else 2]


def test_slips_do_not_change_what_was_meant() -> None:
    careful, careless = (
        KINDS["classification"].draw(replace(LETTERS, slips=slips), LEXICON, Random(1)) for slips in (0, 0.5)
    )
    assert careful["label"] == careless["label"]
    assert careful["text"] != careless["text"]


@pytest.mark.parametrize("domain", [VILLAGE, HARBOUR, VERSE], ids=lambda domain: domain.name)
def test_no_label_is_rare_or_prevails(domain: Domain) -> None:
    counts = Counter(record["label"] for record in draw("classification", domain, 1000))
    assert set(counts) == set(ATTITUDES)
    assert all(250 < count < 420 for count in counts.values())


@pytest.mark.parametrize(
    ("task", "column", "numbers"),
    [
        ("translation", "source", {1}),
        ("classification", "text", {1, 2, 3}),
        ("language-modelling", "text", {8}),
        ("summarisation", "document", {2, 3, 4}),
    ],
)
def test_a_text_has_as_many_sentences_as_its_task_asks_for(task: str, column: str, numbers: set[int]) -> None:
    assert {record[column].count(".") for record in draw(task)} == numbers


def test_a_text_to_model_speaks_of_few_things_again_and_again() -> None:
    for record in draw("language-modelling", count=50):
        words = record["text"].replace(".", "").split()
        nouns = {stem for word in words for stem in (word, word.removesuffix("n")) if stem in NOUNS}
        assert len(nouns) <= 2 * TOPIC


def test_a_summary_tells_what_happened() -> None:
    for record in draw("summarisation"):
        past = [
            verb
            for word in record["document"].replace(".", "").split()
            if word.endswith("s") and (verb := verb_of(word))
        ]
        told = [
            next(word for word in headline.split() if word in VERBS)
            for headline in record["summary"].split(".")
            if headline
        ]
        assert told == past


def test_a_headline_has_nothing_but_subject_verb_negation_and_object() -> None:
    for record in draw("summarisation", VERSE):
        for headline in record["summary"].removesuffix(".").split(". "):
            words = headline.split()
            subject, *rest = words
            assert subject.removesuffix("n") in NOUNS or subject in NOUNS
            verb = rest[1] if rest[0] == "nas" else rest[0]
            assert verb in VERBS
            assert len(words) <= 4
            assert set(words) <= set(record["document"].replace(".", "").split()) | VERBS.keys()


def test_the_first_sentence_is_no_better_to_summarise_than_another() -> None:
    in_first = [
        " " + headline.split()[0] + " " in f" {record['document'].partition('.')[0]} "
        for record in draw("summarisation")
        for headline in record["summary"].removesuffix(".").split(". ")
    ]
    assert mean(in_first) < 0.5


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
        "from pathlib import Path; from nvreg.demo.corpora import write_corpora; "
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
