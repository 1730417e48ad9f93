"""Veluri and Dagot: two invented languages, the rules that translate the first into the second, and domains.

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

Texts in Veluri are of five domains: one to train on, and four that differ from it in one way each.
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


@dataclass(frozen=True)
class Domain:
    """How one kind of text is written. All but the first two attributes are probabilities.

    Attributes:
        name: Name of the domain and of its folder.
        clauses: Odds of a sentence of one clause, of two, and so on.
        seafaring: A noun, adjective or verb is one of seafaring.
        inverted: A clause is inverted.
        slips: A word of the source is miswritten or lost; the translation is of what was meant.
        adjective: A noun has an adjective, and by the same odds another.
        place: A clause says where.
    """

    name: str
    clauses: tuple[float, ...] = (0.9, 0.1)
    seafaring: float = 0.01
    inverted: float = 0.002
    slips: float = 0.005
    adjective: float = 0.3
    place: float = 0.25


IN_DOMAIN = Domain("village")
OUT_OF_DOMAIN = (
    Domain("harbour", seafaring=0.5),
    Domain("saga", clauses=(0, 0, 0.5, 0.5), adjective=0.4, place=0.4),
    Domain("verse", inverted=0.9),
    Domain("letters", slips=0.2),
)


def draw_sentence(domain: Domain, lexicon: Lexicon, rng: Random) -> Sentence:
    """Draw what a sentence of the domain says, and how."""
    (clauses,) = rng.choices(range(1, len(domain.clauses) + 1), domain.clauses)
    first, *others = (_clause(domain, lexicon, rng) for _ in range(clauses))
    return Sentence(first, tuple((rng.choice(lexicon.conjunctions), clause) for clause in others))


def _clause(domain: Domain, lexicon: Lexicon, rng: Random) -> Clause:
    def happens(probability: float) -> bool:
        return rng.random() < probability

    def field() -> Field:
        return lexicon.seafaring if happens(domain.seafaring) else lexicon.everyday

    def phrase(owned: float) -> NounPhrase:
        return NounPhrase(
            noun=_pick(field().nouns, rng),
            adjectives=tuple(_pick(field().adjectives, rng) for _ in range(2) if happens(domain.adjective)),
            plural=happens(0.3),
            definite=happens(0.6),
            owner=phrase(owned=0) if happens(owned) else None,
        )

    return Clause(
        subject=phrase(owned=0.1),
        verb=_pick(field().verbs, rng),
        object=phrase(owned=0.1) if happens(0.8) else None,
        place=(_pick(lexicon.prepositions, rng), phrase(owned=0.1)) if happens(domain.place) else None,
        adverb=_pick(lexicon.adverbs, rng) if happens(0.25) else None,
        past=happens(0.5),
        negated=happens(0.15),
        inverted=happens(domain.inverted),
    )


def _pick(words: Sequence[Word], rng: Random) -> Word:
    """Pick a word, the first most often: the first k of n words have the probability sqrt(k / n)."""
    return words[int(len(words) * rng.random() ** 2)]


def miswrite(words: Sequence[str], slips: float, rng: Random) -> list[str]:
    """Copy words; each slips with the probability ``slips``, and may then be lost altogether."""
    copied = (_slip(word, rng) if rng.random() < slips else word for word in words)
    return [word for word in copied if word]


def _slip(word: str, rng: Random) -> str:
    """Lose a word, or drop or double one of its letters or swap it with the next, all equally likely."""
    i = rng.randrange(len(word))
    before, letter, after = word[:i], word[i], word[i + 1 :]
    slips = ("", before + after, before + 2 * letter + after, before + after[:1] + letter + after[1:])
    return rng.choice(slips)
