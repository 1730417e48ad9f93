"""Samplers that learn nothing: their settings are known before the first is measured."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import count

import numpy as np

from nvreg.parameters import Setting
from nvreg.space import Space, draw, product

Layers = Mapping[str, int]
"""Number of layers by role of a model."""


def grid(space: Space, kind: type[Setting], layers: Layers, seed: int) -> Iterator[Setting]:
    """Yield every combination of the space's values."""
    return (kind.from_dict(values) for values in product(space))


def random(space: Space, kind: type[Setting], layers: Layers, seed: int) -> Iterator[Setting]:
    """Yield independent draws without end; the i-th depends on nothing but the seed and i."""
    return (kind.from_dict(draw(space, layers, np.random.default_rng([seed, index]))) for index in count())


LISTED: Mapping[str, Callable[[Space, type[Setting], Layers, int], Iterator[Setting]]] = {
    "grid": grid,
    "random": random,
}
