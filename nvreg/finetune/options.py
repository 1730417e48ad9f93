"""What each fine-tuning method can be told: the ``regulariser`` section of a fine-tuning file."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from nvreg.config.sections import InputPath, Section
from nvreg.finetune.schedule import Schedule

Share = Annotated[float, Field(ge=0, lt=1)]


class Options(Section):
    """Of a method that has none."""


class WeightDecayToPretrainedOptions(Options):
    """``strength`` is the weight of half the squared distance from the pretrained body in the loss."""

    strength: PositiveFloat = 0.01


class GuidedDropoutOptions(Options):
    """``fisher`` is a file of `nvreg fisher`; ``schedule`` is guided, or a control of it."""

    fisher: InputPath
    schedule: Schedule = "guided"
    p_max: Share = 0.1
    p_min: Share = 0.0

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.p_min > self.p_max:
            raise ValueError(f"p_min: expected at most p_max, got {self.p_min} and {self.p_max}")
        return self


class MVCROptions(Options):
    """Multi-view compressed representations.

    ``widths`` are those of the autoencoders, by default 1/6, 1/3 and 2/3 of the hidden size (128, 256 and 512
    of 768). ``layers`` are numbered from 0, in the encoder where there is one; by default 1 and 11 of 12, or
    the same fractions of another depth. ``position`` is the feed-forward output or that of the whole layer.
    ``noise`` is a standard deviation, ``reconstruction_rate`` a multiple of the learning rate, ``warm_up``
    the share of training steps in which only the autoencoders learn.
    """

    widths: Annotated[list[PositiveInt], Field(min_length=1)] | None = None
    layers: Annotated[list[NonNegativeInt], Field(min_length=1)] | None = None
    position: Literal["feed-forward", "layer"] = "feed-forward"
    dropout: Share = 0.2
    noise: NonNegativeFloat = 0.002
    reconstruction_rate: PositiveFloat = 50.0
    warm_up: Share = 0.04
