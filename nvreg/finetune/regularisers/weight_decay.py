"""Weight decay towards the pretrained weights (L2-SP: Li et al., 2018)."""

from __future__ import annotations

from typing import Any

import torch
from transformers import PreTrainedModel

from nvreg.finetune.options import WeightDecayToPretrainedOptions
from nvreg.finetune.regularisers.regulariser import Regulariser
from nvreg.identity import body_parameters


class WeightDecayToPretrained(Regulariser[WeightDecayToPretrainedOptions]):
    """Adds ``strength / 2 |w - w_pretrained|^2`` over the body to the loss, as its gradient.

    It is added after gradients are clipped, so that clipping is that of the task alone.
    """

    def __init__(self, model: PreTrainedModel, options: WeightDecayToPretrainedOptions, seed: int) -> None:
        super().__init__(model, options, seed)
        self._pairs = [(tensor, tensor.detach().clone()) for tensor in body_parameters(model).values()]

    @torch.no_grad()
    def on_pre_optimizer_step(self, *_: Any, **__: Any) -> None:
        """Add the gradient."""
        for tensor, pretrained in self._pairs:
            if tensor.grad is not None:
                tensor.grad.add_(tensor - pretrained, alpha=self.options.strength)
