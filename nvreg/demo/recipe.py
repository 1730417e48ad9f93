"""What a demo is made from: how much text, which size of model, how long a training."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from nvreg.demo.domains import IN_DOMAIN, OUT_OF_DOMAIN

VERSION = 2
"""Raised by hand when the same recipe and seed come to give other corpora or another model."""


@dataclass(frozen=True)
class Training:
    """A training: AdamW, a linear warm-up and a linear decay to zero."""

    steps: int
    warmup_steps: int = 150
    batch_tokens: int = 800
    learning_rate: float = 2e-3


@dataclass(frozen=True)
class Recipe:
    """Examples of a split (only the in-domain corpus has training examples), size of the model, training.

    Attributes:
        training_examples: In-domain examples to train on; as many texts of all domains for a pretraining.
        validation_examples: Of each domain.
        test_examples: Of each domain.
        vocabulary: Tokens.
        width: Of the model's hidden states.
        feed_forward: Of its feed-forward layers.
        layers: Of an encoder-decoder model: of either half.
        heads: Of attention.
        training: On the in-domain training examples.
        pretraining: Before it, on unlabelled texts of all domains.
    """

    training: Training
    training_examples: int = 12_000
    validation_examples: int = 200
    test_examples: int = 300
    vocabulary: int = 2000
    width: int = 128
    feed_forward: int = 256
    layers: int = 2
    heads: int = 4
    pretraining: Training | None = None

    def digest(self, task: str, seed: int) -> str:
        """Name everything that a task's demo depends on but the code, for which the version stands."""
        ingredients = (VERSION, task, seed, self, IN_DOMAIN, OUT_OF_DOMAIN)
        return hashlib.sha256(repr(ingredients).encode()).hexdigest()


RECIPES = {
    "translation": Recipe(Training(steps=800)),
    "classification": Recipe(
        Training(steps=700, learning_rate=1e-3),
        validation_examples=400,
        test_examples=600,
        vocabulary=1500,
        pretraining=Training(steps=600, batch_tokens=1600),
    ),
    "language-modelling": Recipe(Training(steps=900), training_examples=8000, vocabulary=1500),
    "summarisation": Recipe(
        Training(steps=1500), validation_examples=150, test_examples=200, vocabulary=1500
    ),
}
"""Task to its recipe, in the order in which they are made."""
