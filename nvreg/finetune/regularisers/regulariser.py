"""The interface of a fine-tuning method, and of the options that a file gives it."""

from __future__ import annotations

from abc import ABC
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

from nvreg.config.sections import Section

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class Options(Section):
    """The ``regulariser`` section of a fine-tuning file; a method without options has no keys in it."""


T = TypeVar("T", bound=Options)


class Regulariser(ABC, Generic[T]):
    """A method at work on one model, from its construction to `detach_`.

    Importing a method imports no torch, so that a file is checked without it. Evaluation is never touched:
    the model's outputs in evaluation mode are those of a plain model with the same weights, before and after
    `detach_`. A training step calls `before_step`, then `before_update` when gradients are clipped, then
    `after_update`.

    Args:
        model: the model, changed in place.
        options: what the file says of the method.
        seed: decides all that is drawn before training begins.

    Attributes:
        options_class: the schema of the method's options.

    Raises:
        UserError: if the model is not one for the method.
    """

    options_class: ClassVar[type[Options]] = Options

    def __init__(self, model: PreTrainedModel, options: T, seed: int) -> None:
        self.model = model
        self.options = options

    def detach_(self) -> None:
        """Leave a plain model with the weights as they are now."""

    def before_step(self, step: int, steps: int) -> None:
        """Act before a training step.

        Args:
            step: the number of steps before this one.
            steps: the number of steps of the whole training.
        """

    def before_update(self) -> None:
        """Act on the gradients, which are clipped by now, before the optimiser reads them."""

    def after_update(self, learning_rate: float) -> None:
        """Act after the optimiser's update of the weights.

        Args:
            learning_rate: the rate of that update.
        """

    def validates(self, step: int, steps: int) -> bool:
        """Return whether an epoch that ends after so many steps of all is validated, and may be the best."""
        return True

    def describe(self) -> dict[str, Any]:
        """Return what was applied to this model, for the manifest."""
        return {}

    def state(self) -> dict[str, Any]:
        """Return tensors and numbers that training goes on from, beside weights and optimiser."""
        return {}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from what `state` returned."""
