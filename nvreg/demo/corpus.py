"""The corpora as files."""

from __future__ import annotations

import json
from collections.abc import Iterable
from itertools import cycle, islice, repeat
from pathlib import Path
from random import Random

from nvreg.demo.domains import IN_DOMAIN, OUT_OF_DOMAIN, Domain
from nvreg.demo.language import Lexicon
from nvreg.demo.recipe import Recipe
from nvreg.demo.records import KINDS, Kind, Record
from nvreg.files import write_text

DOMAINS = (IN_DOMAIN, *OUT_OF_DOMAIN)
GENERAL = "general"
"""The folder of texts of all domains in turn, without labels, for a model to be pretrained on."""


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


def _new(kind: Kind, domain: Domain, lexicon: Lexicon, rng: Random, seen: set[str]) -> Record:
    """Draw an example of which no distinct text has been seen, and see them."""
    while True:
        record = kind.draw(domain, lexicon, rng)
        texts = {record[column] for column in kind.distinct}
        if seen.isdisjoint(texts):
            seen.update(texts)
            return record
