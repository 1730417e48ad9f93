"""What each task's examples say, worked out again from their words."""

from collections import Counter
from dataclasses import replace
from random import Random
from statistics import mean

import pytest

from nvreg.demo.domains import IN_DOMAIN, OUT_OF_DOMAIN, Domain
from nvreg.demo.language import TOPIC, Lexicon
from nvreg.demo.records import ATTITUDES, KINDS, Record

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
