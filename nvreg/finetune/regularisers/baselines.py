"""The baselines of regularised fine-tuning: plain, the head alone, and held near the pretrained weights."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import PositiveFloat

from nvreg.errors import UserError
from nvreg.finetune.regularisers.regulariser import Options, Regulariser

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class Plain(Regulariser[Options]):
    """Adds nothing; the model's own dropout applies."""


class HeadOnly(Regulariser[Options]):
    """Freezes the body; a pooler counts as head."""

    def __init__(self, model: PreTrainedModel, options: Options, seed: int) -> None:
        from nvreg.digests import body_parameters

        super().__init__(model, options, seed)
        self._frozen = [tensor for tensor in body_parameters(model).values() if tensor.requires_grad]
        for tensor in self._frozen:
            tensor.requires_grad_(False)
        self._trained = sum(tensor.numel() for tensor in model.parameters() if tensor.requires_grad)
        if not self._trained:
            self.detach_()
            raise UserError(
                "head-only: expected a model with parameters outside its body, got "
                f"{type(model).__name__}, of which the output layer is the embedding"
            )

    def detach_(self) -> None:
        """Let the body be trained again."""
        for tensor in self._frozen:
            tensor.requires_grad_(True)

    def describe(self) -> dict[str, Any]:
        """Return the number of parameters that were trained."""
        return {"trained_parameters": self._trained}


class WeightDecayToPretrainedOptions(Options):
    """The options of weight decay towards the pretrained weights."""

    strength: PositiveFloat = 0.01
    """Weight of half the squared distance from the pretrained body in the loss."""


class WeightDecayToPretrained(Regulariser[WeightDecayToPretrainedOptions]):
    """Adds ``strength / 2 |w - w_pretrained|^2`` over the body to the loss (L2-SP: Li et al., 2018).

    It is added as its gradient after gradients are clipped, so that clipping is that of the task alone.
    """

    options_class = WeightDecayToPretrainedOptions

    def __init__(self, model: PreTrainedModel, options: WeightDecayToPretrainedOptions, seed: int) -> None:
        from nvreg.digests import body_parameters

        super().__init__(model, options, seed)
        self._pairs = [(tensor, tensor.detach().clone()) for tensor in body_parameters(model).values()]

    def before_update(self) -> None:
        """Add the gradient."""
        import torch

        with torch.no_grad():
            for tensor, pretrained in self._pairs:
                if tensor.grad is not None:
                    tensor.grad.add_(tensor - pretrained, alpha=self.options.strength)
