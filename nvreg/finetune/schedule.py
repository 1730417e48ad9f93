"""Dropout rates from Fisher scores: linear in rank, and the schedules it is compared with."""

from __future__ import annotations

import random
from collections.abc import Mapping
from statistics import mean
from typing import Literal

import numpy as np

Schedule = Literal["guided", "reversed", "shuffled", "uniform", "uniform-mean"]


def dropout_rates(
    scores: Mapping[str, float], schedule: Schedule, *, p_max: float, p_min: float, seed: int
) -> dict[str, float]:
    """Return the dropout rate of each site (docs/regularisers.md, section 2).

    ``guided`` gives p_max to the site of the lowest score and p_min to that of the highest, linear in the
    rank; equal scores rank in the order given. The others are controls: ``reversed`` is guided by negated
    scores, ``shuffled`` gives the same rates to sites at random, ``uniform`` is p_max everywhere and
    ``uniform-mean`` the schedule's mean everywhere.

    Args:
        scores: Fisher score by site.
        schedule: one of the five.
        p_max: largest rate.
        p_min: smallest rate.
        seed: of ``shuffled``.
    """
    ranked = sorted(scores, key=scores.__getitem__)
    if schedule == "reversed":
        ranked.reverse()
    elif schedule == "shuffled":
        random.Random(seed).shuffle(ranked)
    rates = np.linspace(p_max, p_min, len(ranked)).tolist()
    if schedule == "uniform":
        rates = [p_max] * len(ranked)
    elif schedule == "uniform-mean":
        rates = [mean(rates)] * len(ranked)
    by_site = dict(zip(ranked, rates, strict=True))
    return {site: by_site[site] for site in scores}
