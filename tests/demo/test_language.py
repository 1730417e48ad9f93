"""The languages' grammar; and each domain far from the training text in the one way that is its own."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from random import Random
from statistics import mean

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nvreg.demo.language import (
    GENDERS,
    IN_DOMAIN,
    OUT_OF_DOMAIN,
    TOPIC,
    Clause,
    Field,
    Lexicon,
    NounPhrase,
    Sentence,
    Word,
    draw_sentence,
    miswrite,
)

FARMER = Word("limo", "gabok", "o")
COW = Word("nusi", "hozel", "a")
OLD = Word("vena", "tupig")
SEE = Word("faru", "degat")
TODAY = Word("reve", "zubad")
BEHIND = Word("somi", "pakin")
AND = Word("lewa", "hidun")

OLD_FARMERS = NounPhrase(FARMER, (OLD,), plural=True)
A_COW = NounPhrase(COW, definite=False)


def said(sentence: Sentence | Clause) -> tuple[str, str]:
    return " ".join(sentence.veluri()), " ".join(sentence.dagot())


def test_example_of_the_module() -> None:
    clause = Clause(OLD_FARMERS, SEE, A_COW, past=True, negated=True)
    assert said(clause) == (
        "sul vena limon nas farus em nusi",
        "kor gaboker tupigor hozelum degatathor bek",
    )


def test_full_clause_in_either_order() -> None:
    parts = {"object": A_COW, "place": (BEHIND, NounPhrase(COW, plural=True)), "adverb": TODAY}
    dagot = "kor gaboker tupigor kar hozelerek pakin hozelum zubad degatenor"
    assert said(Clause(OLD_FARMERS, SEE, **parts)) == (
        "sul vena limon faru em nusi somi sul nusin reve",
        dagot,
    )
    assert said(Clause(OLD_FARMERS, SEE, **parts, inverted=True)) == (
        "reve wen em nusi sul limon vena faru somi sul nusin",
        dagot,
    )


def test_owner_changes_sides() -> None:
    phrase = NounPhrase(COW, (OLD,), owner=NounPhrase(FARMER, definite=False))
    assert phrase.veluri() == ["sul", "vena", "nusi", "ril", "em", "limo"]
    assert phrase.dagot("um") == ["gabokost", "ka", "hozelum", "tupiga"]


def test_clauses_are_linked() -> None:
    clause = Clause(A_COW, SEE)
    assert said(Sentence(clause, ((AND, clause),))) == (
        "em nusi faru lewa em nusi faru",
        "hozel degatena hidun hozel degatena",
    )


phrases = st.builds(
    NounPhrase,
    noun=st.builds(Word, st.just("nu"), st.just("hod"), st.sampled_from(GENDERS)),
    adjectives=st.lists(st.just(OLD), max_size=2).map(tuple),
    plural=st.booleans(),
    definite=st.booleans(),
)


@given(phrase=phrases, case=st.sampled_from(("", "um", "ek", "ost")))
def test_words_of_a_phrase_agree_with_its_noun(phrase: NounPhrase, case: str) -> None:
    words = phrase.dagot(case)
    ending = phrase.noun.gender + ("r" if phrase.plural else "")
    noun = "hod" + ("er" if phrase.plural else "") + case
    assert words.count(noun) == 1
    agreeing = [word for word in words if word != noun]
    assert agreeing == ["k" + ending] * phrase.definite + ["tupig" + ending] * len(phrase.adjectives)


@given(subject=phrases, object_=phrases, past=st.booleans(), negated=st.booleans())
def test_verb_agrees_with_its_subject_and_not_its_object(
    subject: NounPhrase, object_: NounPhrase, past: bool, negated: bool
) -> None:
    words = Clause(subject, SEE, object_, past=past, negated=negated).dagot()
    if negated:
        assert words.pop() == "bek"
    assert words[-1] == "degat" + ("ath" if past else "en") + subject.agreement


@pytest.mark.parametrize("language", ["veluri", "dagot"])
def test_no_two_words_share_a_stem(language: str) -> None:
    lexicon = Lexicon.draw(Random(0))
    fields = (lexicon.everyday, lexicon.seafaring)
    words = [
        word for field in fields for part in (field.nouns, field.adjectives, field.verbs) for word in part
    ]
    words += [*lexicon.adverbs, *lexicon.prepositions, *lexicon.conjunctions]
    stems = [getattr(word, language) for word in words]
    assert len(set(stems)) == len(stems)


def test_lexicon_depends_on_the_seed_alone() -> None:
    assert Lexicon.draw(Random(3)) == Lexicon.draw(Random(3))
    assert Lexicon.draw(Random(3)) != Lexicon.draw(Random(4))


def test_nouns_are_of_every_gender() -> None:
    assert {noun.gender for noun in Lexicon.draw(Random(0)).everyday.nouns} == set(GENDERS)


def test_a_sentence_in_veluri_has_one_translation() -> None:
    rng = Random(0)
    lexicon = Lexicon.draw(rng)
    translations: dict[str, str] = {}
    for domain in (IN_DOMAIN, *OUT_OF_DOMAIN):
        for _ in range(4000):
            veluri, dagot = said(draw_sentence(domain, lexicon, rng))
            assert translations.setdefault(veluri, dagot) == dagot


def test_any_word_may_be_of_a_topic() -> None:
    lexicon = Lexicon.draw(Random(0))
    verbs, rng = lexicon.everyday.verbs, Random(1)
    topics = [lexicon.topic(rng).everyday for _ in range(400)]
    assert {len(set(words)) for topic in topics for words in (topic.nouns, topic.verbs)} == {TOPIC}
    commonest = sum(verb in verbs[: len(verbs) // 2] for topic in topics for verb in topic.verbs)
    assert commonest / (TOPIC * len(topics)) == pytest.approx(0.5, abs=0.05)


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
