from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nvreg.demo.domains import IN_DOMAIN, OUT_OF_DOMAIN, draw_sentence
from nvreg.demo.language import GENDERS, TOPIC, Clause, Lexicon, NounPhrase, Sentence, Word

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
