"""Veluri and Dagot: two invented languages, and the rules that translate the first into the second.

Every word is made of syllables that a seeded generator draws; no text comes from anywhere. The pair has what
makes translation more than looking up words:

================  =====================================  =================================================
..                Veluri, the source                     Dagot, the target
================  =====================================  =================================================
clause            subject verb object place adverb       subject place object adverb verb
inverted clause   adverb "wen" object subject verb       as any other clause
                  place; adjectives behind their noun
adjectives        before their noun                      behind it, agreeing in gender and number
articles          "sul" definite, "em" indefinite        definite only: k-, agreeing in gender and number
gender            none                                   of a noun; what agrees with it ends in a, o or i
number            plural noun -n                         plural noun -er; what agrees with it adds -r
case              none                                   direct object -um, owner -ost, place -ek
owner             behind the noun, after "ril"           before the noun
place             preposition                            postposition
tense             past -s                                past -ath-, present -en-
negation          "nas" before the verb                  "bek" behind the verb
verb              no agreement                           agrees with its subject in gender and number
================  =====================================  =================================================

With limo = gabok (o), farmer; nusi = hozel (a), cow; vena = tupig, old; and faru = degat, to see, "the old
farmers did not see a cow" is

    sul vena limon nas farus em nusi
    kor gaboker tupigor hozelum degatathor bek

Veluri does not show gender: a translator has to know it noun by noun, and to carry it to article, adjectives
and the verb at the other end of the clause. A clause in Veluri has one translation.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from random import Random

GENDERS = "aoi"
TOPIC = 4
"""Nouns, and as many adjectives and verbs, that a text on one topic uses."""


@dataclass(frozen=True)
class Word:
    """An entry of the dictionary: a stem in either language and, of a noun, the gender in Dagot."""

    veluri: str
    dagot: str
    gender: str = ""


@dataclass(frozen=True)
class NounPhrase:
    """A noun and what belongs to it."""

    noun: Word
    adjectives: tuple[Word, ...] = ()
    plural: bool = False
    definite: bool = True
    owner: NounPhrase | None = None

    @property
    def agreement(self) -> str:
        """What a Dagot word that agrees with this phrase ends in."""
        return self.noun.gender + "r" * self.plural

    def veluri(self, inverted: bool = False) -> list[str]:
        """The words in Veluri, as in an inverted clause or not."""
        article = "sul" if self.definite else "em"
        noun = self.noun.veluri + "n" * self.plural
        adjectives = [adjective.veluri for adjective in self.adjectives]
        owner = ["ril", *self.owner.veluri(inverted)] if self.owner else []
        return [article, *((noun, *adjectives) if inverted else (*adjectives, noun)), *owner]

    def dagot(self, case: str = "") -> list[str]:
        """The words in Dagot, the noun with the ending of its case."""
        owner = self.owner.dagot("ost") if self.owner else []
        article = ["k" + self.agreement] if self.definite else []
        noun = self.noun.dagot + "er" * self.plural + case
        adjectives = [adjective.dagot + self.agreement for adjective in self.adjectives]
        return [*owner, *article, noun, *adjectives]


@dataclass(frozen=True)
class Clause:
    """What one clause says; ``inverted`` alone is about how Veluri says it."""

    subject: NounPhrase
    verb: Word
    object: NounPhrase | None = None
    place: tuple[Word, NounPhrase] | None = None
    adverb: Word | None = None
    past: bool = False
    negated: bool = False
    inverted: bool = False

    def veluri(self) -> list[str]:
        """The words in Veluri."""
        subject = self.subject.veluri(self.inverted)
        verb = [*["nas"] * self.negated, self.verb.veluri + "s" * self.past]
        object_ = self.object.veluri(self.inverted) if self.object else []
        place = [self.place[0].veluri, *self.place[1].veluri(self.inverted)] if self.place else []
        adverb = [self.adverb.veluri] if self.adverb else []
        if self.inverted:
            topic = ["wen", *object_] if object_ else []
            return [*adverb, *topic, *subject, *verb, *place]
        return [*subject, *verb, *object_, *place, *adverb]

    def dagot(self) -> list[str]:
        """The words in Dagot."""
        place = [*self.place[1].dagot("ek"), self.place[0].dagot] if self.place else []
        object_ = self.object.dagot("um") if self.object else []
        adverb = [self.adverb.dagot] if self.adverb else []
        verb = self.verb.dagot + ("ath" if self.past else "en") + self.subject.agreement
        return [*self.subject.dagot(), *place, *object_, *adverb, verb, *["bek"] * self.negated]


@dataclass(frozen=True)
class Sentence:
    """One clause, and any more that follow it, each behind a conjunction."""

    first: Clause
    rest: tuple[tuple[Word, Clause], ...] = ()

    @property
    def clauses(self) -> tuple[Clause, ...]:
        """All of them, in order."""
        return (self.first, *(clause for _, clause in self.rest))

    def veluri(self) -> list[str]:
        """The words in Veluri."""
        rest = (word for link, clause in self.rest for word in (link.veluri, *clause.veluri()))
        return [*self.first.veluri(), *rest]

    def dagot(self) -> list[str]:
        """The words in Dagot."""
        rest = (word for link, clause in self.rest for word in (link.dagot, *clause.dagot()))
        return [*self.first.dagot(), *rest]


@dataclass(frozen=True)
class Field:
    """The content words of one walk of life, the commonest first."""

    nouns: tuple[Word, ...]
    adjectives: tuple[Word, ...]
    verbs: tuple[Word, ...]

    def topic(self, rng: Random) -> Field:
        """Draw the few words that one text uses, any as likely as any other."""
        return Field(
            *(tuple(rng.sample(words, TOPIC)) for words in (self.nouns, self.adjectives, self.verbs))
        )


@dataclass(frozen=True)
class Lexicon:
    """All words of the pair: content words of two walks of life, and the words that any text needs."""

    everyday: Field
    seafaring: Field
    adverbs: tuple[Word, ...]
    prepositions: tuple[Word, ...]
    conjunctions: tuple[Word, ...]

    @classmethod
    def draw(cls, rng: Random) -> Lexicon:
        """Draw a lexicon in which no two words share a stem, in either language."""
        veluri = _stems(rng, onsets="lmnrsvfw", codas=("",))
        dagot = _stems(rng, onsets="tkdgbzph", codas="dgklntz")

        def words(count: int) -> tuple[Word, ...]:
            return tuple(Word(next(veluri), next(dagot)) for _ in range(count))

        def nouns(count: int) -> tuple[Word, ...]:
            return tuple(Word(next(veluri), next(dagot), rng.choice(GENDERS)) for _ in range(count))

        return cls(
            everyday=Field(nouns(160), words(50), words(60)),
            seafaring=Field(nouns(60), words(20), words(25)),
            adverbs=words(20),
            prepositions=words(8),
            conjunctions=words(4),
        )

    def topic(self, rng: Random) -> Lexicon:
        """Draw the lexicon of one text: few content words, and the words that any text needs."""
        return replace(self, everyday=self.everyday.topic(rng), seafaring=self.seafaring.topic(rng))


def _stems(rng: Random, onsets: str, codas: Sequence[str]) -> Iterator[str]:
    """Yield distinct stems without end: two or three open syllables, closed by one of ``codas``."""
    seen = set()
    while True:
        syllables = (rng.choice(onsets) + rng.choice("aeiou") for _ in range(rng.choice((2, 2, 3))))
        stem = "".join(syllables) + rng.choice(codas)
        if stem not in seen:
            seen.add(stem)
            yield stem
