"""Samplers: which settings a sweep tries, in which order."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import chain, count, islice

import numpy as np

from nvreg.attention.settings import Settings
from nvreg.config import Sweep
from nvreg.errors import UserError
from nvreg.sweep.space import Space, check_space, draw, parse_space, product

Layers = Mapping[str, int]
"""Number of layers by role of a model."""


def grid(space: Space, layers: Layers, seed: int) -> Iterator[Settings]:
    """Yield every combination of the space's values."""
    return product(space)


def random(space: Space, layers: Layers, seed: int) -> Iterator[Settings]:
    """Yield independent draws without end; the i-th depends on nothing but the seed and i."""
    return (draw(space, layers, np.random.default_rng([seed, index])) for index in count())


SAMPLERS: Mapping[str, Callable[[Space, Layers, int], Iterator[Settings]]] = {"grid": grid, "random": random}


def settings_to_try(sweep: Sweep, layers: Layers) -> list[Settings]:
    """Return the settings of a sweep in order: the pretrained model's, the enqueued, the sampler's.

    Settings that come twice are tried once.

    Raises:
        UserError: if the space or an enqueued setting names what a model of these layers has not.
    """
    space = parse_space(sweep.space.model_dump())
    check_space(space, layers)
    enqueued = [Settings.from_dict(written) for written in sweep.enqueue]
    for settings in enqueued:
        try:
            settings.check(layers)
        except ValueError as error:
            raise UserError(f"sweep.enqueue: {error}") from error
    sampled = SAMPLERS[sweep.sampler](space, layers, sweep.seed)
    tried = islice(chain(enqueued, sampled), sweep.trials)
    return list(dict.fromkeys(chain([Settings.identity()], tried)))
