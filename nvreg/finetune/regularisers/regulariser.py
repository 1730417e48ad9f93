"""What every fine-tuning method is; by itself, plain fine-tuning."""

from __future__ import annotations

from typing import Any, Generic, TypeVar

from transformers import PreTrainedModel, TrainerCallback

from nvreg.finetune.options import Options

T = TypeVar("T", bound=Options)


class Regulariser(TrainerCallback, Generic[T]):
    """A method at work on one model, from its construction to `detach_`.

    It acts on the events of `transformers.Trainer`. Evaluation is never touched: the model's outputs in
    evaluation mode are those of a plain model with the same weights, before and after `detach_`.

    Args:
        model: changed in place.
        options: the method's.
        seed: of all that is random before training begins.

    Raises:
        UserError: if the model is not one for the method.
    """

    def __init__(self, model: PreTrainedModel, options: T, seed: int) -> None:
        self.model = model
        self.options = options

    def detach_(self) -> None:
        """Leave a plain model with the weights as they are now."""

    def describe(self) -> dict[str, Any]:
        """Return what was applied to this model, for the manifest."""
        return {}

    def state(self) -> dict[str, Any]:
        """Return tensors and numbers that training goes on from, beside weights and optimiser."""
        return {}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from what `state` returned."""
