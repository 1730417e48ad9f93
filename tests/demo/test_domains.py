"""Each domain is far from the training text in the one way that is its own, and near it in the others."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from random import Random
from statistics import mean

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nvreg.demo.domains import IN_DOMAIN, OUT_OF_DOMAIN, draw_sentence, miswrite
from nvreg.demo.language import Field, Lexicon, Word

LEXICON = Lexicon.draw(Random(0))
SENTENCES = 1000


def stems(words: Iterable[Word]) -> set[str]:
    return {word.veluri for word in words}


def content(field: Field) -> set[str]:
    return stems((*field.nouns, *field.adjectives, *field.verbs))


SEA_STEMS = content(LEXICON.seafaring)
STEMS = {"sul", "em", "ril", "nas", "wen"} | SEA_STEMS | content(LEXICON.everyday)
STEMS |= stems((*LEXICON.adverbs, *LEXICON.prepositions, *LEXICON.conjunctions))


def stem(word: str) -> str:
    return word if word in STEMS else word[:-1]


def share(texts: list[list[str]], counts: Callable[[str], bool]) -> float:
    return mean(counts(word) for text in texts for word in text)


MEASURES = {
    "words of seafaring": lambda texts: share(texts, lambda word: stem(word) in SEA_STEMS),
    "words a sentence": lambda texts: mean(map(len, texts)),
    "objects in front": lambda texts: share(texts, lambda word: word == "wen"),
    "words that Veluri has not": lambda texts: share(texts, lambda word: stem(word) not in STEMS),
}
OWN = {
    "harbour": "words of seafaring",
    "saga": "words a sentence",
    "verse": "objects in front",
    "letters": "words that Veluri has not",
}


@pytest.fixture(scope="module")
def measured() -> dict[str, dict[str, float]]:
    """Domain to measure to value."""
    values = {}
    for domain in (IN_DOMAIN, *OUT_OF_DOMAIN):
        rng = Random(1)
        sentences = [draw_sentence(domain, LEXICON, rng).veluri() for _ in range(SENTENCES)]
        texts = [miswrite(sentence, domain.slips, rng) for sentence in sentences]
        values[domain.name] = {name: measure(texts) for name, measure in MEASURES.items()}
    return values


def test_training_text_has_little_of_what_the_others_have(measured: dict[str, dict[str, float]]) -> None:
    village = measured[IN_DOMAIN.name]
    assert 0 < village["words of seafaring"] < 0.01
    assert 0 < village["objects in front"] < 0.001
    assert 0 < village["words that Veluri has not"] < 0.01
    assert 7 < village["words a sentence"] < 10


@pytest.mark.parametrize("domain", OUT_OF_DOMAIN, ids=lambda domain: domain.name)
def test_domain_differs_in_one_way(domain, measured: dict[str, dict[str, float]]) -> None:
    own, village = measured[domain.name], measured[IN_DOMAIN.name]
    far = {
        "words of seafaring": own["words of seafaring"] > 0.25,
        "words a sentence": own["words a sentence"] > 3 * village["words a sentence"],
        "objects in front": own["objects in front"] > 0.05,
        "words that Veluri has not": own["words that Veluri has not"] > 0.1,
    }
    assert [name for name, is_far in far.items() if is_far] == [OWN[domain.name]]


@pytest.mark.parametrize("domain", OUT_OF_DOMAIN, ids=lambda domain: domain.name)
def test_only_what_is_long_has_another_length(domain, measured: dict[str, dict[str, float]]) -> None:
    ratio = measured[domain.name]["words a sentence"] / measured[IN_DOMAIN.name]["words a sentence"]
    assert (ratio > 1.25) == (domain.name == "saga")
    assert ratio > 0.85


def test_common_words_come_first() -> None:
    rng = Random(0)
    first = stems(LEXICON.everyday.verbs[:15])
    verbs = [draw_sentence(IN_DOMAIN, LEXICON, rng).first.verb.veluri for _ in range(SENTENCES)]
    assert mean(verb in first for verb in verbs) == pytest.approx(0.5, abs=0.06)


def test_sentences_have_as_many_clauses_as_their_domain_says() -> None:
    saga = replace(IN_DOMAIN, clauses=(0, 0, 1))
    assert {len(draw_sentence(saga, LEXICON, Random(seed)).rest) for seed in range(20)} == {2}


words = st.lists(st.text("abc", min_size=1, max_size=6), min_size=1, max_size=8)


@given(words=words, seed=st.integers(0, 99))
def test_without_slips_a_copy_is_faithful(words: list[str], seed: int) -> None:
    assert miswrite(words, 0.0, Random(seed)) == words


@given(word=st.text("abcdef", min_size=2, max_size=8), seed=st.integers(0, 999))
def test_a_slip_changes_a_word_by_one_edit(word: str, seed: int) -> None:
    written = "".join(miswrite([word], 1.0, Random(seed)))
    dropped = {word[:i] + word[i + 1 :] for i in range(len(word))}
    doubled = {word[:i] + word[i] + word[i:] for i in range(len(word))}
    swapped = {word[:i] + word[i + 1 : i + 2] + word[i] + word[i + 2 :] for i in range(len(word))}
    assert written in {""} | dropped | doubled | swapped


def test_every_kind_of_slip_happens() -> None:
    lengths = {len("".join(miswrite(["abcd"], 1.0, Random(seed)))) for seed in range(40)}
    assert lengths == {0, 3, 4, 5}
