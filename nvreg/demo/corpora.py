"""The corpora: the examples of each task, all of them said in Veluri, and their files."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import cycle, islice, repeat
from pathlib import Path
from random import Random

from nvreg.demo.language import (
    IN_DOMAIN,
    OUT_OF_DOMAIN,
    Clause,
    Domain,
    Lexicon,
    NounPhrase,
    Sentence,
    draw_sentence,
    miswrite,
)
from nvreg.demo.recipe import Recipe
from nvreg.files import write_text

DOMAINS = (IN_DOMAIN, *OUT_OF_DOMAIN)
GENERAL = "general"
"""The folder of texts of all domains in turn, without labels, for a model to be pretrained on."""


Record = dict[str, str]
"""An example: text by column."""

ATTITUDES = ("neutral", "favourable", "unfavourable")
"""The labels of classification, and what the verbs of a field say in turn."""


@dataclass(frozen=True)
class Kind:
    """The examples of a task.

    Attributes:
        draw: Draws one of a domain.
        columns: What it has.
        distinct: The columns of which no text may occur twice in all files of the task.
    """

    draw: Callable[[Domain, Lexicon, Random], Record]
    columns: tuple[str, ...]
    distinct: tuple[str, ...]


def translation(domain: Domain, lexicon: Lexicon, rng: Random) -> Record:
    """Draw a sentence and what it is in Dagot."""
    sentence = draw_sentence(domain, lexicon, rng)
    return {"source": _text([sentence], domain, rng), "target": _written(sentence.dagot())}


def classification(domain: Domain, lexicon: Lexicon, rng: Random) -> Record:
    """Draw one to three sentences and the attitude that prevails in them.

    Every verb is neutral, favourable or unfavourable; negation makes either of the last two the other one:
    neither the words alone nor their mere number give the label.
    """
    sentences = _sentences(rng.randint(1, 3), domain, lexicon, rng)
    attitude = sum(_attitude(clause, lexicon) for sentence in sentences for clause in sentence.clauses)
    label = ATTITUDES[(attitude > 0) - (attitude < 0)]
    return {"text": _text(sentences, domain, rng), "label": label}


def language_modelling(domain: Domain, lexicon: Lexicon, rng: Random) -> Record:
    """Draw eight sentences on few things: what has been spoken of is likely to be spoken of again."""
    return {"text": _text(_sentences(8, domain, lexicon.topic(rng), rng), domain, rng)}


def summarisation(domain: Domain, lexicon: Lexicon, rng: Random) -> Record:
    """Draw two to four sentences and, of each clause in the past, a headline: what happened.

    A headline has nothing but subject, verb, negation and object, without article, adjective or tense.
    """
    events: list[Clause] = []
    while not events:
        sentences = _sentences(rng.randint(2, 4), domain, lexicon, rng)
        events = [clause for sentence in sentences for clause in sentence.clauses if clause.past]
    headlines = (_written(_headline(event)) for event in events)
    return {"document": _text(sentences, domain, rng), "summary": " ".join(headlines)}


KINDS = {
    "translation": Kind(translation, columns=("source", "target"), distinct=("source", "target")),
    "classification": Kind(classification, columns=("text", "label"), distinct=("text",)),
    "language-modelling": Kind(language_modelling, columns=("text",), distinct=("text",)),
    "summarisation": Kind(summarisation, columns=("document", "summary"), distinct=("document",)),
}
"""Task to its examples."""


def _sentences(count: int, domain: Domain, lexicon: Lexicon, rng: Random) -> list[Sentence]:
    return [draw_sentence(domain, lexicon, rng) for _ in range(count)]


def _text(sentences: Iterable[Sentence], domain: Domain, rng: Random) -> str:
    """Write sentences in Veluri, as carefully as the domain does."""
    return " ".join(_written(miswrite(sentence.veluri(), domain.slips, rng)) for sentence in sentences)


def _written(words: Sequence[str]) -> str:
    return " ".join(words) + "."


def _attitude(clause: Clause, lexicon: Lexicon) -> int:
    """Return 1 for a favourable clause, -1 for an unfavourable one, 0 for any other."""
    (verbs,) = (field.verbs for field in (lexicon.everyday, lexicon.seafaring) if clause.verb in field.verbs)
    attitude = (0, 1, -1)[verbs.index(clause.verb) % 3]
    return -attitude if clause.negated else attitude


def _headline(event: Clause) -> list[str]:
    plain = Clause(
        _bare(event.subject), event.verb, _bare(event.object) if event.object else None, negated=event.negated
    )
    return [word for word in plain.veluri() if word not in ("sul", "em")]


def _bare(phrase: NounPhrase) -> NounPhrase:
    return NounPhrase(phrase.noun, plural=phrase.plural)


def write_corpora(directory: Path, task: str, seed: int, recipe: Recipe) -> None:
    """Write ``<domain>/<split>.jsonl``; the bytes depend on nothing but task, seed and recipe.

    No input of a model occurs twice in all files together.
    """
    kind, lexicon = KINDS[task], Lexicon.draw(Random(f"{seed}/lexicon"))
    seen: set[str] = set()

    def write(name: str, split: str, domains: Iterable[Domain], columns: tuple[str, ...]) -> None:
        """Write an example of each of the domains."""
        rng = Random(f"{seed}/{task}/{name}/{split}")
        records = (_new(kind, domain, lexicon, rng, seen) for domain in domains)
        lines = (json.dumps({column: record[column] for column in columns}) + "\n" for record in records)
        (directory / name).mkdir(exist_ok=True)
        write_text(directory / name / f"{split}.jsonl", "".join(lines))

    for domain in DOMAINS:
        write(domain.name, "validation", repeat(domain, recipe.validation_examples), kind.columns)
        write(domain.name, "test", repeat(domain, recipe.test_examples), kind.columns)
    write(IN_DOMAIN.name, "train", repeat(IN_DOMAIN, recipe.training_examples), kind.columns)
    if recipe.pretraining:
        write(GENERAL, "train", islice(cycle(DOMAINS), recipe.training_examples), kind.distinct)


def read_records(path: Path) -> list[Record]:
    """Read a file of `write_corpora`."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def digest_of(directory: Path) -> str:
    """Return a digest of the files of `write_corpora`: names and bytes."""
    digest = hashlib.sha256()
    for path in sorted(directory.glob("*/*.jsonl")):
        digest.update(f"{path.parent.name}/{path.name}\n".encode() + path.read_bytes())
    return digest.hexdigest()


def _new(kind: Kind, domain: Domain, lexicon: Lexicon, rng: Random, seen: set[str]) -> Record:
    """Draw an example of which no distinct text has been seen, and see them."""
    while True:
        record = kind.draw(domain, lexicon, rng)
        texts = {record[column] for column in kind.distinct}
        if seen.isdisjoint(texts):
            seen.update(texts)
            return record
