"""Attention sites under the controls that change scores: temperature and sink."""

from __future__ import annotations

import math
from typing import NamedTuple

from torch.nn import functional as F

from nvreg.attention.fused import Parameters, QueryMap
from nvreg.models.state import SiteState, Weights


class Temperature(NamedTuple):
    """What scores are divided by, above 0."""

    temperature: float = 1.0


class TemperatureState(SiteState):
    """A site whose scores, position biases included, are divided by a temperature."""

    setting = Temperature

    def prepare(self, weights: Weights) -> Parameters:
        """Return what the current temperature needs."""
        return Parameters(temperature=self.settings.temperature)


class Sink(NamedTuple):
    """The logit of one more key, whose value is zero."""

    sink_logit: float = -math.inf


class SinkState(SiteState):
    """A site with one more key of constant logit and zero value, where NV attention has its prior."""

    setting = Sink

    def prepare(self, weights: Weights) -> Parameters:
        """Return what the current logit needs."""
        heads, head_dim, _ = weights.key.weight.shape
        nothing = weights.key.weight.new_zeros(heads * weights.groups, head_dim, head_dim + 1)
        offset = F.pad(nothing[:, :1, 1:], (0, 1), value=self.settings.sink_logit)
        return Parameters(prior=QueryMap(nothing, offset))
