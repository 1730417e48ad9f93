"""What a demo is made from."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from nvreg.demo.domains import IN_DOMAIN, OUT_OF_DOMAIN

VERSION = 1
"""Raised by hand when the same recipe and seed come to give other corpora or another model."""


@dataclass(frozen=True)
class Recipe:
    """Size of the corpora (only the in-domain one has training pairs), and size and training of the model."""

    training_pairs: int = 12_000
    validation_pairs: int = 200
    test_pairs: int = 300
    vocabulary: int = 2000
    width: int = 128
    feed_forward: int = 256
    layers: int = 2
    heads: int = 4
    steps: int = 800
    warmup_steps: int = 150
    batch_tokens: int = 800
    learning_rate: float = 2e-3
    label_smoothing: float = 0.1

    def digest(self, seed: int) -> str:
        """Name everything that a demo depends on but the code, for which the version stands."""
        ingredients = (VERSION, seed, self, IN_DOMAIN, OUT_OF_DOMAIN)
        return hashlib.sha256(repr(ingredients).encode()).hexdigest()


FULL = Recipe()
