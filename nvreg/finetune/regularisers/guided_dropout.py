"""Guided dropout (Sharma et al., 2024): dropout rates from Fisher information."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from nvreg.finetune.dropout import get_rate, set_rates_
from nvreg.finetune.fisher import Fisher
from nvreg.finetune.options import GuidedDropoutOptions
from nvreg.finetune.regularisers.regulariser import Regulariser
from nvreg.finetune.schedule import dropout_rates


class GuidedDropout(Regulariser[GuidedDropoutOptions]):
    """Gives every dropout site of the body its rate; heads keep theirs."""

    def __init__(self, model: PreTrainedModel, options: GuidedDropoutOptions, seed: int) -> None:
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
        set_rates_(self.model, self._before)

    def describe(self) -> dict[str, Any]:
        """Return the rates by site."""
        return {"rates": self._rates}
