"""Guided dropout (Sharma et al., 2024): rates from Fisher information (docs/regularisers.md, section 2)."""

from __future__ import annotations

import random
from collections.abc import Mapping
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from nvreg.config.sections import InputPath
from nvreg.finetune.regularisers.regulariser import Options, Regulariser

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Schedule = Literal["guided", "reversed", "shuffled", "uniform", "uniform-mean"]


class GuidedDropoutOptions(Options):
    """The options of guided dropout."""

    fisher: InputPath
    """The file of scores that `nvreg fisher` wrote for this model."""

    schedule: Schedule = "guided"
    """How scores become rates; all but ``guided`` are controls."""

    p_max: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Largest dropout rate."""

    p_min: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Smallest dropout rate."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.p_min > self.p_max:
            raise ValueError(f"p_min: expected at most p_max, got {self.p_min} and {self.p_max}")
        return self


class GuidedDropout(Regulariser[GuidedDropoutOptions]):
    """Gives every dropout site of the body its rate; heads keep theirs."""

    options_class = GuidedDropoutOptions

    def __init__(self, model: PreTrainedModel, options: GuidedDropoutOptions, seed: int) -> None:
        from nvreg.finetune.dropout import get_rate, set_rates_
        from nvreg.finetune.fisher import Fisher

        super().__init__(model, options, seed)
        fisher = Fisher.load(Path(options.fisher))
        fisher.check(model)
        self._rates = dropout_rates(
            fisher.scores, options.schedule, p_max=options.p_max, p_min=options.p_min, seed=seed
        )
        self._before = {site: get_rate(model, site) for site in self._rates}
        set_rates_(model, self._rates)

    def detach_(self) -> None:
        """Give the sites their own rates back."""
        from nvreg.finetune.dropout import set_rates_

        set_rates_(self.model, self._before)

    def describe(self) -> dict[str, Any]:
        """Return the rates by site."""
        return {"rates": self._rates}


def dropout_rates(
    scores: Mapping[str, float], schedule: Schedule, *, p_max: float, p_min: float, seed: int
) -> dict[str, float]:
    """Return the dropout rate of each site.

    ``guided`` gives p_max to the site of the lowest score and p_min to that of the highest, linear in the
    rank; equal scores rank in the order given. The others are controls: ``reversed`` is guided by negated
    scores, ``shuffled`` gives the same rates to sites at random, ``uniform`` is p_max everywhere and
    ``uniform-mean`` the schedule's mean everywhere.

    Args:
        scores: Fisher score by site.
        schedule: one of the five.
        p_max: largest rate.
        p_min: smallest rate.
        seed: decides what ``shuffled`` draws.
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
