"""The parallel corpora as files."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from random import Random

from nvreg.demo.domains import IN_DOMAIN, OUT_OF_DOMAIN, Domain, draw_sentence, miswrite
from nvreg.demo.language import Lexicon
from nvreg.demo.recipe import Recipe
from nvreg.files import write_text

Pair = dict[str, str]
"""A sentence (``source``) and its translation (``target``)."""


def write_corpora(directory: Path, seed: int, recipe: Recipe) -> None:
    """Write ``<domain>/<split>.jsonl``; the bytes depend on nothing but seed and recipe.

    No sentence occurs twice, on either side, in all files together.
    """
    lexicon = Lexicon.draw(Random(f"{seed}/lexicon"))
    seen: set[str] = set()
    for domain in (IN_DOMAIN, *OUT_OF_DOMAIN):
        splits = {"validation": recipe.validation_pairs, "test": recipe.test_pairs}
        if domain is IN_DOMAIN:
            splits["train"] = recipe.training_pairs
        (directory / domain.name).mkdir()
        for split, size in splits.items():
            pairs = _new(_pairs(domain, lexicon, Random(f"{seed}/{domain.name}/{split}")), seen)
            lines = (json.dumps(next(pairs)) + "\n" for _ in range(size))
            write_text(directory / domain.name / f"{split}.jsonl", "".join(lines))


def read_pairs(path: Path) -> list[Pair]:
    """Read a file of `write_corpora`."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def _pairs(domain: Domain, lexicon: Lexicon, rng: Random) -> Iterator[Pair]:
    while True:
        sentence = draw_sentence(domain, lexicon, rng)
        source = miswrite(sentence.veluri(), domain.slips, rng)
        yield {"source": " ".join(source) + ".", "target": " ".join(sentence.dagot()) + "."}


def _new(pairs: Iterator[Pair], seen: set[str]) -> Iterator[Pair]:
    """Yield the pairs neither side of which has been seen, and see them."""
    for pair in pairs:
        if seen.isdisjoint(pair.values()):
            seen.update(pair.values())
            yield pair
