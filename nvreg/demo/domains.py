"""The kinds of text in Veluri: one to train on, and four that differ from it in one way each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from nvreg.demo.language import Clause, Field, Lexicon, NounPhrase, Sentence, Word


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
